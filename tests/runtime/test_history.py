"""Searching back: what a stream keeps of visits, how it is found, and that it is gone when its time is over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY, assert_user_error, call

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import Running, some_gallery, street_video, wait_for
from stays import MANIFEST, MODEL, NOON, Visits, open_history, open_recorder, rows, visit

from personsearch.core.config import load_settings
from personsearch.core.errors import UserError
from personsearch.runtime.decisions import gallery_copies
from personsearch.runtime.decisions.camera_means import means_file, save_means
from personsearch.runtime.decisions.centring import StoredMean, centred
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.history.folder import expire, forget_person
from personsearch.runtime.history.searching import Range, search
from personsearch.runtime.history.store import History
from personsearch.runtime.history.visit_file import VisitFile, day_of
from personsearch.runtime.operations.audit import verify
from personsearch.runtime.operations.place import audit_file
from personsearch.runtime.operations.status import status_lines
from personsearch.runtime.settings import HistorySettings, StreamSettings

ODDS = odds_of(MANIFEST)
ALWAYS = Range()
ADA, BO = "p-aaaaaaaaaaaa", "p-bbbbbbbbbbbb"


def find(root: Path, row: np.ndarray, wanted: Range = ALWAYS, limit: int = 20, source: str = "picture", **means):
    return search(root, [EnrolledView(row, source)], MANIFEST.model_hash, wanted, means.get, lambda camera: ODDS, limit)


def bytes_of(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


# --- searching --------------------------------------------------------------------------------------------------------


def test_nothing_was_seen_yet(tmp_path: Path) -> None:
    open_history(tmp_path).close()
    found = find(tmp_path, rows(1)[0])
    assert (found.hits, found.searched.total()) == ([], 0)


def test_visits_are_found_by_looks_times_and_cameras(tmp_path: Path) -> None:
    people, history = rows(40), open_history(tmp_path)
    for number, row in enumerate(people):
        visit(history, row, f"camera{number % 2}", NOON + 3600 * number, ADA if number == 4 else None)
    history.close()
    assert history.kept == 40
    assert history.left_out == 0
    found = find(tmp_path, people[4])
    best = found.hits[0]
    assert (best.camera, best.person, best.track, best.views) == ("camera0", ADA, 7, 1)
    assert (best.started, best.ended) == (NOON + 4 * 3600, NOON + 4 * 3600 + 20)
    assert best.similarity > 0.99 > found.hits[1].similarity + 0.4
    assert found.searched == {"camera0": 20, "camera1": 20}
    assert best.false_match_rate == ODDS.false_match_rate(best.similarity)
    assert best.expected_false == pytest.approx(40 * best.false_match_rate)
    assert [h.similarity for h in found.hits] == sorted((h.similarity for h in found.hits), reverse=True)
    # A visit counts that goes on at the beginning of the time, or begins at its end.
    assert find(tmp_path, people[4], Range(NOON + 4 * 3600 + 20)).hits[0].sighting == best.sighting
    assert find(tmp_path, people[4], Range(until=NOON + 4 * 3600)).hits[0].sighting == best.sighting
    late = find(tmp_path, people[4], Range(NOON + 4 * 3600 + 21))
    assert best.sighting not in {h.sighting for h in late.hits}
    assert late.searched.total() == 35
    other = find(tmp_path, people[4], Range(cameras=frozenset({"camera1"})))
    assert other.searched == {"camera1": 20}
    assert len(find(tmp_path, people[4], limit=3).hits) == 3


def test_similarities_are_the_judges(tmp_path: Path) -> None:
    """Visits are stored as the model made them, and lose their camera's mean as the gallery does."""
    people, history = rows(30), open_history(tmp_path)
    means = {"door": 0.3 * rows(1, 1)[0], "yard": 0.4 * rows(1, 2)[0]}
    for number, row in enumerate(people):
        visit(history, row, ["door", "yard"][number % 2])
    history.close()
    query = rows(3, 3)
    views = [EnrolledView(row, "yard") for row in query]
    found = search(tmp_path, views, MANIFEST.model_hash, Range(), means.get, lambda camera: ODDS, 30)
    lineup = Lineup(Gallery(MANIFEST.model_hash, MANIFEST.dimensions, ["q"] * 3, views), means.get)
    for side, camera in enumerate(["door", "yard"]):
        expected = np.sort(lineup.similarities(centred(people[side::2], means[camera]))[:, 0])[::-1]
        got = [hit.similarity for hit in found.hits if hit.camera == camera]
        assert np.abs(np.array(got) - expected).max() < 1e-3
    with VisitFile(next(tmp_path.rglob("door.*.visits"))) as file:
        assert np.abs(file.read(0)["embedding"] - people[0]).max() < 1e-3


def test_a_search_goes_on_while_the_stream_writes(tmp_path: Path) -> None:
    people, history = rows(400), open_history(tmp_path)
    counts = []
    for number, row in enumerate(people):
        visit(history, row)
        if number % 40 == 0:
            counts.append(find(tmp_path, people[0]).searched.total())
    history.close()
    assert counts == sorted(counts)
    assert find(tmp_path, people[399]).searched.total() == 400


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_later_name_holds_for_the_earlier_part_of_a_sighting(tmp_path: Path) -> None:
    people, history = rows(2), open_history(tmp_path)
    sighting = visit(history, people[0], "door")
    wait_for(lambda: history.kept == 1, 10)
    visit(history, people[1], "yard", person=ADA, sighting=sighting)
    history.close()
    assert [find(tmp_path, row).hits[0].person for row in people] == [ADA, ADA]


def test_a_camera_without_history_leaves_nothing(tmp_path: Path) -> None:
    allowed = {"door": True, "yard": False}
    history = History(HistorySettings(path=str(tmp_path)), *MODEL, keeps=allowed.__getitem__)
    now = time.time()
    for camera in allowed:
        visit(history, rows(1)[0], camera, now)
    allowed["door"] = False  # by a reload
    visit(history, rows(1)[0], "door", now)
    history.close()
    assert find(tmp_path, rows(1)[0]).searched == {"door": 1}
    assert not list(tmp_path.rglob("yard*"))


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    history = open_history(tmp_path / "history", crops=True)
    visit(history, rows(1)[0])
    history.close()
    for path in (tmp_path / "history").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "history").stat().st_mode & 0o077 == 0


def test_two_streams_cannot_write_one_history(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    with pytest.raises(UserError, match="another stream writes this history"):
        open_history(tmp_path)
    history.close()
    open_history(tmp_path).close()


def test_a_folder_that_takes_no_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", Path("/proc/none")):
        with pytest.raises(UserError, match=r"cannot be written \(.+\); set another history.path"):
            open_history(path)


# --- what is forgotten ------------------------------------------------------------------------------------------------


def test_visits_are_erased_when_their_time_is_over(tmp_path: Path) -> None:
    people, history = rows(4), open_history(tmp_path)
    moments = [NOON - 86400 * 2, NOON - 3600 * 5, NOON - 3600, NOON + 86400 * 3]  # the last by a clock that was wrong
    sightings = [visit(history, row, started=moment) for row, moment in zip(people, moments, strict=True)]
    history.close()
    done: dict[Path, int] = {}
    assert expire(tmp_path, 4 * 3600, 60.0, {}) == 0  # 1970: a machine without a battery
    assert expire(tmp_path, 4 * 3600, NOON, done) == 3
    left = bytes_of(tmp_path)
    assert [s.id.encode() in left for s in sightings] == [False, False, True, False]
    assert [row.astype(np.float16).tobytes() in left for row in people] == [False, False, True, False]
    assert find(tmp_path, people[2]).searched.total() == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == [day_of(NOON)]
    # The clock is put back by an hour, and then goes on: nothing is erased early, and nothing stays.
    assert expire(tmp_path, 4 * 3600, NOON - 3600, done) == 0
    assert expire(tmp_path, 4 * 3600, NOON + 3600 * 2, done) == 0
    assert expire(tmp_path, 4 * 3600, NOON + 3600 * 3 + 30, done) == 1
    assert sightings[2].id.encode() not in bytes_of(tmp_path)


def test_the_running_stream_erases_by_itself(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    sighting = visit(history, rows(1)[0], started=time.time() - 7200)
    history.close()
    assert sighting.id.encode() in bytes_of(tmp_path)
    history = History(HistorySettings(path=str(tmp_path), keep_hours=1), *MODEL)
    wait_for(lambda: history.erased == 1, 20)
    history.close()
    assert sighting.id.encode() not in bytes_of(tmp_path)


def test_forgetting_a_person_leaves_no_byte(tmp_path: Path) -> None:
    people, history = rows(6), open_history(tmp_path, crops=True)
    history.pictures.take = lambda camera, track: f"jpeg of {camera}".encode()
    unnamed = visit(history, people[0], "door")
    wait_for(lambda: history.kept == 1, 10)
    visit(history, people[1], "yard", person=ADA, sighting=unnamed)
    visit(history, people[2], "yard", person=BO)
    visit(history, people[3], "door", NOON - 86400, person=ADA)
    wait_for(lambda: history.kept == 4, 10)
    assert history.forget_person("p-ffffffffffff") == 0
    assert history.forget_person(ADA) == 3
    # What the stream still held in memory, or goes on with, does not bring the person back; others are kept.
    visit(history, people[4], "gate", person=ADA, started=time.time() - 60)
    visit(history, people[5], "gate", person=BO, started=time.time() - 60)
    history.close()
    left = bytes_of(tmp_path)
    for gone in (ADA.encode(), unnamed.id.encode(), b"jpeg of door"):
        assert gone not in left, gone
    assert left.count(b"jpeg of yard") == 1
    assert [row.astype(np.float16).tobytes() in left for row in people] == [False, False, True, False, False, True]
    assert find(tmp_path, people[2]).searched == {"yard": 1, "gate": 1}
    assert find(tmp_path, people[2]).hits[0].crop == b"jpeg of yard"
    assert forget_person(tmp_path / "none", ADA) == 0


# --- faults -----------------------------------------------------------------------------------------------------------


def test_truncated_damaged_and_foreign_files_do_no_harm(tmp_path: Path) -> None:
    people, history = rows(5), open_history(tmp_path)
    for row in people:
        visit(history, row, person=ADA)
    history.close()
    path = next(tmp_path.rglob("*.visits"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])  # the last record was cut off
    assert find(tmp_path, people[0]).searched.total() == 4
    history = open_history(tmp_path)
    visit(history, people[4])
    history.close()
    assert path.stat().st_size == len(whole)
    assert find(tmp_path, people[4]).hits[0].similarity > 0.99
    torn = bytearray(path.read_bytes())
    torn[-400] ^= 0xFF  # a bit of a record: it is no hit
    path.write_bytes(torn)
    assert len(find(tmp_path, people[4]).hits) == 4
    path.write_bytes(b"rubbish" * 200 + ADA.encode())  # and the header
    path.with_suffix(".crops").write_bytes(b"her face")
    assert find(tmp_path, people[4]).searched.total() == 0
    history = open_history(tmp_path)
    visit(history, people[3])
    history.close()
    assert find(tmp_path, people[3]).searched.total() == 1
    assert forget_person(tmp_path, ADA) == 0
    for gone in (ADA.encode(), b"her face"):  # nobody could say which bytes of the damaged file were hers
        assert gone not in bytes_of(tmp_path)
    assert find(tmp_path, people[3]).searched.total() == 1


def test_a_crop_that_no_visit_knows_is_removed(tmp_path: Path) -> None:
    """A stream was killed between writing the crop and its visit: nobody could erase it later."""
    for _ in range(2):
        history = open_history(tmp_path, crops=True)
        history.pictures.take = lambda camera, track: b"jpeg"
        visit(history, rows(1)[0])
        history.close()
        (path,) = tmp_path.rglob("*.crops")
        with open(path, "ab") as file:
            file.write(b"unknown")
    history = open_history(tmp_path)
    history.close()
    assert path.read_bytes() == b"jpegjpeg"


def test_a_full_disk_loses_nothing_once_there_is_room(tmp_path: Path) -> None:
    history = open_history(tmp_path)
    day = tmp_path / day_of(NOON)
    day.write_text("in the way")  # no folder can be made: the same refusal as of a full or read-only disk
    people = rows(3)
    visit(history, people[0])
    wait_for(lambda: history.failing, 10)
    visit(history, people[1])
    day.unlink()
    wait_for(lambda: history.kept == 2, 10)
    assert not history.failing
    history.close()
    assert history.left_out == 0
    assert find(tmp_path, people[1]).searched.total() == 2


WRITER = """
import sys, numpy as np
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from pathlib import Path
from stays import open_history, rows, visit
history, row = open_history(Path(sys.argv[1])), rows(1)[0]
print("ready", flush=True)
while True:
    visit(history, row)
"""


def test_a_killed_stream_leaves_whole_visits(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parent
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, tests, tests.parent], cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        size = sum(p.stat().st_size for p in tmp_path.rglob("*.visits"))
        wait_for(lambda: sum(p.stat().st_size for p in tmp_path.rglob("*.visits")) > size + 5000, 60)  # noqa: B023
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait(10)
    found = find(tmp_path, rows(1)[0], limit=10_000)
    assert len(found.hits) == min(10_000, found.searched.total()) > 10  # every record is sound
    open_history(tmp_path).close()


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real pipeline on a street: its tracks are visits, which its history keeps with crops."""
    place = tmp_path_factory.mktemp("watched")
    street_video(place / "street.avi", frames=60, fps=10, size=(640, 384))
    cameras = [{"name": "door", "url": str(place / "street.avi"), "pace": "fast"}]
    with Running(cameras, match={"threshold": -1}, inference={"load_timeout_s": 600, "timeout_s": 60}) as running:
        history = History(HistorySettings(path=str(place / "history"), crops=True), *MODEL)
        recorder = open_recorder(place / "clips", "sightings", snapshots=True, blur=True)
        visits = Visits(running.pipeline)
        visits.stay_listeners.append(history.add)
        visits.listeners.append(recorder.on_change)
        running.pipeline.watchers += [history.look, visits.see, recorder.write]
        running.thread.join(500)
        visits.leave()
        history.close()
        recorder.close()
        assert history.kept >= 2, status_lines(running.pipeline)
    save_gallery(some_gallery(), place / "people.gallery")
    (place / "cams.yaml").write_text(json.dumps({
        "cameras": [{"name": "door", "url": "x.avi"}], "gallery": str(place / "people.gallery"),
        "history": {"path": str(place / "history")},
    }))  # fmt: skip
    return place


def test_a_picture_finds_the_visit_it_was_taken_of(watched: Path) -> None:
    with VisitFile(next((watched / "history").rglob("*.visits"))) as file:
        records = [file.read(number) for number in range(file.count)]
        crops = [file.crop(record) for record in records]
    assert all(crops)
    number = max(range(len(crops)), key=lambda n: records[n]["quality"])
    (watched / "who.jpg").write_bytes(crops[number])
    height, width = cv2.imread(str(watched / "who.jpg")).shape[:2]
    result = call(
        "runtime/search.py", "--cams", watched / "cams.yaml", "--image", watched / "who.jpg", "--camera", "door",
        "--box", f"0,0,{width},{height}", "--since", "1h", "--json", "--sheet", watched / "sheet.png",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["visits"] == answer["searched"]["door"] == len(records)
    assert answer["hits"][0]["sighting"] == records[number]["sighting"].decode()
    assert answer["hits"][0]["from"].endswith("Z")
    assert cv2.imread(str(watched / "sheet.png")).shape[1] > 400


def test_every_named_visit_has_a_clip_that_plays(watched: Path) -> None:
    clips = sorted((watched / "clips").glob("door.*.mp4"))
    assert len(clips) >= 2
    for path in clips:
        note = json.loads(path.with_suffix(".json").read_text())
        assert cv2.VideoCapture(str(path)).read()[1].shape == (384, 640, 3)
        assert note["person"] == "p-0123456789ab"
        assert note["until"] >= note["since"]
        assert note["sighting"] in path.name
    assert len(list((watched / "clips").glob("*.jpg"))) == len({path.name.split(".")[2] for path in clips})


def test_somebody_enrolled_is_searched_for_in_a_table_and_that_is_on_record(watched: Path) -> None:
    options = ("runtime/search.py", "--cams", watched / "cams.yaml", "--person", "Person 1")
    log = audit_file(load_settings(watched / "cams.yaml", StreamSettings).gallery)
    log.touch()  # began by somebody who wants one
    result = call(*options, "--since", "30m")
    assert result.returncode == 0, result.stderr
    assert '"searched"' in log.read_text()
    assert "Person 1" not in log.read_text()
    assert not verify(log).fault
    head, *lines = result.stdout.splitlines()
    assert head.split()[:4] == ["camera", "from", "to", "similarity"]
    assert lines
    assert all(line.startswith("door ") and " 1 in " in line for line in lines)
    nothing = call(*options, "--until", "3d", "--cameras", "door")
    assert nothing.returncode == 0
    assert "nobody was seen then and there (0 visits searched)" in nothing.stderr


def test_what_cannot_be_searched_is_said_in_a_line(watched: Path, tmp_path: Path) -> None:
    cams = ("--cams", watched / "cams.yaml")
    for arguments, words in (
        ((), "either --image FILE or --person NAME"),
        (("--person", "Person 1"), "no history"),
        (("--person", "Person 1", "--history", tmp_path / "none"), "no such folder of visits"),
        ((*cams, "--person", "Nobody"), "'Nobody' is not enrolled"),
        ((*cams, "--person", "Person 1", "--since", "soon"), "--since soon: expected an age"),
        ((*cams, "--person", "Person 1", "--since", "1h", "--until", "2h"), "later than"),
        ((*cams, "--person", "Person 1", "--cameras", "yard"), "'yard' is no camera"),
        ((*cams, "--person", "Person 1", "--limit", "0"), "--limit 0"),
        ((*cams, "--image", tmp_path / "none.jpg"), "no such file"),
    ):
        assert_user_error(call("runtime/search.py", *arguments), words)


def test_another_models_history_is_refused_and_left_until_its_time_is_over(tmp_path: Path) -> None:
    history = History(HistorySettings(path=str(tmp_path / "h"), keep_hours=24 * 366), "f" * 16, 8)
    visit(history, np.ones(8, np.float32))
    history.close()
    gallery = tmp_path / "people.gallery"
    save_gallery(some_gallery(), gallery)
    save_means(means_file(gallery), {"door": StoredMean(0.1 * rows(1)[0], 5.0, NOON)}, MANIFEST.model_hash)
    options = ("runtime/search.py", "--history", tmp_path / "h", "--gallery", gallery, "--person", "Person 0")
    assert_user_error(call(*options), "model ffffffffffffffff", "--bundle")
    history = open_history(tmp_path / "h")  # the stream with the new model goes on beside it
    visit(history, rows(1)[0])
    history.close()
    result = call(*options)
    assert result.returncode == 0
    assert "they are left out" in result.stderr
    assert expire(tmp_path / "h", 3600, NOON + 7200, {}) == 2


def test_an_encrypted_gallery_is_read_with_the_key_that_the_stream_has(tmp_path: Path) -> None:
    gallery, history = tmp_path / "people.gallery", open_history(tmp_path / "h")
    (tmp_path / "box.key").write_bytes(bytes(range(32)))
    save_gallery(some_gallery(), gallery)
    gallery_copies.encrypt(gallery, *MODEL, f"file:{tmp_path / 'box.key'}")
    for row in rows(3):
        visit(history, row, "door")
    history.close()
    (tmp_path / "cams.yaml").write_text(
        f"cameras: [{{name: door, url: 'synthetic://street'}}]\ngallery: {gallery}\n"
        f"history: {{path: {tmp_path / 'h'}}}\ngallery_key: 'file:{tmp_path / 'box.key'}'\n"
    )
    options = ("runtime/search.py", "--person", "Person 1", "--json")
    result = call(*options, "--cams", tmp_path / "cams.yaml")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["visits"] == 3
    here = ("--history", tmp_path / "h", "--gallery", gallery)
    assert call(*options, *here, "--box-key", f"file:{tmp_path / 'box.key'}").returncode == 0
    assert_user_error(call(*options, *here), "key")
