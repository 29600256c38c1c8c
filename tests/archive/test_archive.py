"""From a folder of videos to an index that can be searched: real decoding, the shipped model, the real commands."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs personsearch[archive]")
pytest.importorskip("av", reason="needs personsearch[archive]")
import pyarrow.parquet as parquet
from archive_parts import street, write_video
from conftest import REPOSITORY, assert_user_error, call

from personsearch.archive.analysis import Analyst, Options
from personsearch.archive.index import processes_for
from personsearch.archive.parts import mean_of
from personsearch.archive.pictures import segments_of
from personsearch.archive.progress import Progress
from personsearch.archive.videos import Video, find_videos, probe
from personsearch.core.processor import kernel_text
from personsearch.runtime.settings import StreamSettings, default_bundle

BEGIN = 1769860800.0  # 2026-01-31T12:00:00Z
FRAMES, SEGMENT_S, FPS = 56, 5, 5  # half of the pictures are analysed
INDEX = "archive/index.py"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street, a scene without motion, a file that is cut off, and one that is no video."""
    root = tmp_path_factory.mktemp("videos")
    yard = write_video(root / "yard" / "20260131T120000Z.mp4", street(range(FRAMES)), gop=10)
    picture = np.random.default_rng(0).integers(60, 180, (384, 640, 3), np.uint8)
    write_video(root / "hall.20260131T120000Z.mp4", [picture] * 60, gop=10)
    shutil.copy(yard, root / "cut.mp4")
    os.truncate(root / "cut.mp4", yard.stat().st_size // 2)
    (root / "none.mp4").write_text("not a video")
    return root


def index(videos: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return call(
        INDEX, "--videos", videos, "--out", out, "--workers", 1, "--segment-s", SEGMENT_S, "--fps", FPS, *options
    )


@pytest.fixture(scope="module")
def made(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "index"
    result = index(videos, out)
    assert result.returncode == 3, result.stderr
    assert "none.mp4: no video that can be read" in result.stderr
    assert "left" in result.stderr  # the time that is
    return out


def visits(out: Path, camera: str = "yard") -> list[dict]:
    files = sorted((out / "visits" / camera).glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def embedding(row: dict) -> np.ndarray:
    return np.frombuffer(row["embedding"], "<f2").astype(np.float32)


def test_visits_are_found_with_camera_times_and_views(made: Path) -> None:
    rows = visits(made)
    assert len(rows) >= 3
    for row in rows:
        assert row["camera"] == "yard"
        assert BEGIN <= row["started"] < row["ended"] <= BEGIN + FRAMES / 10
        assert np.isclose(np.linalg.norm(embedding(row)), 1, atol=2e-3)
        assert len(row["view_embeddings"]) == len(row["view_times"]) == len(row["view_boxes"]) == row["views"] <= 5
        assert row["view_qualities"] == sorted(row["view_qualities"], reverse=True)
        assert Path(row["video"]).name == "20260131T120000Z.mp4"
        assert 0 <= row["video_s"] <= FRAMES / 10
    schema = parquet.read_schema(next((made / "visits" / "yard").glob("*.parquet")))
    assert str(schema.field("embedding").type) == "fixed_size_binary[512]"
    assert np.allclose(embedding(rows[0]), mean_of(np.array(rows[0]["view_embeddings"])), atol=2e-3)
    assert not [path for path in made.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]


def test_what_is_still_or_damaged_is_said_and_the_rest_is_there(made: Path) -> None:
    report = json.loads((made / "report.json").read_text())
    assert report["segments"]["still"] == 1
    assert not visits(made, "hall")
    assert {entry["video"] for entry in report["damaged"]} == {"none.mp4", "cut.mp4"}
    assert report["visits"] == sum(len(visits(made, path.name)) for path in (made / "visits").iterdir())


def test_few_pictures_of_people_who_do_not_move_give_the_same_visits(tmp_path: Path) -> None:
    write_video(tmp_path / "desk.mp4", street([0]) * 80, gop=10)
    (segment,) = segments_of(probe(find_videos(str(tmp_path), "desk")[0]), 60)
    parts = {
        motion: Analyst(Options(str(default_bundle()), motion=motion)).analyse(segment) for motion in (False, True)
    }
    assert parts[False].about["analysed"] == 80
    assert parts[True].about["analysed"] <= 21 + 12 + 5  # two seconds, then one in half a second
    assert parts[True].about["described"] <= parts[False].about["described"]
    whole, few = parts[False].rows, parts[True].rows
    assert len(whole) == len(few) >= 2
    for one, other in zip(whole, few, strict=True):
        assert other.started == one.started
        assert other.ended == pytest.approx(one.ended, abs=0.5)
        assert float(one.embedding @ other.embedding) > 0.98


def test_people_are_described_less_often_than_in_a_stream_unless_the_file_says_how() -> None:
    settings = StreamSettings.model_validate(
        {"cameras": [{"name": "yard", "url": "x"}], "describe": {"first_views": 4, "same_similarity": 0.3}}
    )
    plain, told = Options("b").of_camera("yard").describe, Options("b", settings=settings).of_camera("yard").describe
    assert (plain.first_views, plain.first_every_s, plain.doubt_every_s, plain.same_similarity) == (3, 0.3, 0.5, 0.25)
    assert (told.first_views, told.first_every_s, told.doubt_every_s, told.same_similarity) == (4, 0.3, 0.5, 0.3)


@pytest.mark.parametrize(
    ("minutes", "asked", "ray", "processes"),
    [(1, 0, "", 1), (3, 0, "", 1), (4, 0, "", 2), (600, 0, "", 3), (1, 2, "", 1), (3, 2, "", 2), (600, 0, "here", 0)],
)
def test_processes_are_as_many_as_the_work_is_worth(
    minutes: int, asked: int, ray: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = Video("a", "a.mp4", "a.mp4", "yard", 0.0, "list", 60.0 * minutes, 10.0)
    monkeypatch.setattr("personsearch.archive.index.usable_cores", lambda: 3.5)
    given = argparse.Namespace(workers=asked, ray=ray)
    assert processes_for(segments_of(video, 60), given) == processes


def test_a_visit_over_a_border_is_one_visit(videos: Path, made: Path, tmp_path: Path) -> None:
    """Cut in two, or in one piece: the same people, and nobody twice."""
    result = index(videos / "yard", tmp_path / "whole", "--camera", "yard", "--segment-s", 3600)
    assert result.returncode == 0, result.stderr
    whole, cut = visits(tmp_path / "whole"), visits(made)
    over = [row for row in whole if row["started"] < BEGIN + 4.9 and row["ended"] > BEGIN + 5.1]
    assert over
    assert len(cut) == len(whole)
    for row in over:
        vector = embedding(row)
        same = max(cut, key=lambda other: float(embedding(other) @ vector))
        assert abs(same["started"] - row["started"]) < 0.5
        assert abs(same["ended"] - row["ended"]) < 0.5


def test_again_changes_nothing(videos: Path, made: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in made.rglob("*.parquet")}
    result = index(videos, made)
    assert result.returncode == 3
    assert "segments are done already" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.parquet")} == files


def test_an_index_goes_into_a_centres_database_without_being_analysed_again(
    videos: Path, made: Path, tmp_path: Path, dsn: str
) -> None:
    import psycopg

    shutil.copytree(made, tmp_path / "index")
    place = ("--videos", videos, "--out", dsn, "--box", "cellar", "--parts", tmp_path / "index")
    results = [call(INDEX, *place, "--workers", 1, "--segment-s", SEGMENT_S, "--fps", FPS) for _ in range(2)]
    rows = sorted(visits(made), key=lambda row: row["visit"])
    for result in results:
        assert result.returncode == 3, result.stderr
        assert f"cellar: {len(rows)} visits in" in result.stdout
    with psycopg.connect(dsn) as connection:
        kept = connection.execute(
            "select sighting, camera, extract(epoch from started)::float8, views, video, video_s, boot "
            "from stays where camera = 'yard' order by sighting"
        ).fetchall()
        assert connection.execute("select boot from archives where camera = 'yard'").fetchone() == (kept[0][-1],)
    assert [row[:2] + row[3:6] for row in kept] == [
        tuple(row[key] for key in ("visit", "camera", "views", "video", "video_s")) for row in rows
    ]
    assert [row[2] for row in kept] == pytest.approx([row["started"] for row in rows], abs=1e-5)


def test_after_kill_9_it_goes_on_and_comes_to_the_same(videos: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    command = [
        sys.executable, REPOSITORY / INDEX, "--videos", videos, "--out", out, "--workers", "1",
        "--segment-s", str(SEGMENT_S), "--fps", str(FPS),
    ]  # fmt: skip
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(out.glob("parts/*/*.parquet")):
        assert time.monotonic() < end, "no segment was done"
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = len(list(out.glob("parts/*/*.parquet")))
    assert not (out / "visits").exists()
    result = index(videos, out)
    assert result.returncode == 3, result.stderr
    assert f"{done} of " in result.stderr
    for path in made.rglob("visits/*/*.parquet"):
        other = out / path.relative_to(made)
        assert parquet.read_table(other).equals(parquet.read_table(path)), path.name


def test_another_process_and_other_options_are_refused(videos: Path, made: Path, tmp_path: Path) -> None:
    assert_user_error(index(videos, made, "--fps", 10), "was made with fps 5.0, not 10.0", "give another --out")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "a").touch()
    assert_user_error(index(videos, tmp_path / "things"), "other things in it")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--videos", "nowhere"), "no such folder, list"),
        (("--videos", "{empty}"), "holds no video"),
        (("--out", "postgresql://ada:hunter22@centre/index"), "--box NAME and --parts DIR go together"),
        (("--box", "cellar"), "go together; give all three, or a folder"),
        (("--out", "postgresql://centre/index", "--box", "c", "--parts", "{empty}", "--crops"), "keeps no pictures"),
        (("--out", "s3://bucket/index"), "expected a folder"),
        (("--segment-s", "1"), "expected 5 to 86400"),
        (("--views", "9"), "--views 0 to 5"),
        (("--camera", "the yard"), "expected letters"),
        (("--videos", "ftp://host/videos"), "s3://BUCKET"),
        (("--bundle", "nowhere"), "nowhere"),
    ],
)
def test_a_mistake_is_one_line(options: tuple[str, ...], words: str, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = tuple(option.format(empty=tmp_path / "empty") for option in options)
    assert_user_error(call(INDEX, "--videos", videos, "--out", tmp_path / "out", *options), words)
    assert not list((tmp_path / "out").glob("*.json")) if (tmp_path / "out").exists() else True


def test_somebody_is_found_by_a_picture(videos: Path, made: Path, tmp_path: Path) -> None:
    row = max(visits(made), key=lambda row: row["quality"])
    (picture,) = street([round(10 * row["video_s"])])
    cv2.imwrite(str(tmp_path / "ada.png"), picture)
    x1, y1, x2, y2 = row["box"]
    who = ("--index", made, "--image", tmp_path / "ada.png", "--box", f"{x1},{y1},{x2 - x1},{y2 - y1}")
    result = call("runtime/search.py", *who, "--json", "--sheet", tmp_path / "sheet.png")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    best = found["hits"][0]
    assert (best["sighting"], best["camera"]) == (row["visit"], "yard")
    assert best["similarity"] > 0.5
    assert best["similarity"] > found["hits"][1]["similarity"]
    assert (best["video"], best["video_s"]) == (row["video"], round(row["video_s"], 3))
    assert found["searched"]["yard"] == len(visits(made))
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    tile = sheet[8 : 8 + 170, 8 + 190 + 8 : 8 + 2 * 190 + 8]
    assert tile.std() > 20  # cut out of the video: no crop was kept
    table = call("runtime/search.py", *who, "--until", "2026-01-31T11:00:00Z")
    assert "no visit found: nobody was seen then and there (0 visits searched)" in table.stderr
    assert_user_error(call("runtime/search.py", *who, "--history", tmp_path), "one place to search")
    unloaded = (*who[2:], "--engine", "none")  # no model is loaded to say so
    assert_user_error(call("runtime/search.py", "--index", tmp_path, *unloaded), "holds no index.json")
    shutil.copytree(made, tmp_path / "other")
    about = json.loads((made / "index.json").read_text()) | {"model": "0" * 16}
    (tmp_path / "other" / "index.json").write_text(json.dumps(about))
    assert_user_error(call("runtime/search.py", "--index", tmp_path / "other", *unloaded), "cannot compare")


def test_what_videos_are_gone_is_erased_when_asked(videos: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    shutil.copytree(made, out)
    one = tmp_path / "videos"
    one.mkdir()
    shutil.copy(videos / "hall.20260131T120000Z.mp4", one)
    assert index(one, out).returncode == 0
    assert visits(out)
    (one / "yard").mkdir()
    (one / "yard" / "20260131T120000Z.mp4").touch()  # it cannot be read just now, which is no reason to erase
    assert index(one, out, "--prune").returncode == 3
    assert visits(out)
    shutil.rmtree(one / "yard")
    assert index(one, out, "--prune").returncode == 0
    assert not visits(out)
    assert len(list(out.glob("parts/*"))) == 1


def test_a_cluster_that_is_not_there_is_said_at_once(videos: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs personsearch[archive]")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = index(videos, tmp_path / "index", "--ray", address)
    assert_user_error(result, f"--ray {address}: Connection refused", "expected HOST:PORT of a cluster's head")


@pytest.mark.slow
def test_ray_with_two_workers_comes_to_the_same_and_listens_on_loopback_alone(
    videos: Path, made: Path, tmp_path: Path
) -> None:
    listening: set[str] = set()
    process = two_workers(videos, tmp_path)
    while process.poll() is None:
        listening |= _listening(process.pid)
        time.sleep(0.3)
    assert listening, "nothing of Ray's was seen"
    assert {place for place in listening if not place.startswith(("0100007F", "0000000000000000FFFF00000100007F"))} == (
        set()
    )
    assert_ended_like(process, tmp_path, made)


@pytest.mark.slow
def test_a_worker_of_ray_that_is_killed_is_begun_anew_and_its_segment_done_again(
    videos: Path, made: Path, tmp_path: Path
) -> None:
    process = two_workers(videos, tmp_path)
    while not (trying := list(tmp_path.rglob("*.trying"))):
        assert process.poll() is None, "no worker began"
        time.sleep(0.02)
    workers = [number for number in _family(process.pid) if "_Actor" in kernel_text(f"/proc/{number}/cmdline")]
    assert workers, "no worker was seen"
    os.kill(workers[0], signal.SIGKILL)
    assert_ended_like(process, tmp_path, made)
    assert not any(path.exists() for path in trying)


@pytest.mark.slow
def test_an_engine_that_workers_cannot_load_is_said_in_a_sentence(videos: Path, tmp_path: Path) -> None:
    process = two_workers(videos, tmp_path, "--engine", "onnxruntime-tensorrt")
    told, words = process.communicate(timeout=300)
    assert (process.returncode, told) == (2, "")
    assert "onnxruntime has no TensorrtExecutionProvider here" in words
    assert "Traceback" not in words


def two_workers(videos: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    pytest.importorskip("ray", reason="needs personsearch[archive]")
    command = [
        sys.executable, REPOSITORY / INDEX, "--videos", videos, "--out", folder / "index", "--workers", "2",
        "--segment-s", str(SEGMENT_S), "--fps", str(FPS), *options,
    ]  # fmt: skip
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def assert_ended_like(process: subprocess.Popen[str], folder: Path, made: Path) -> None:
    told, words = process.communicate(timeout=300)
    assert process.returncode == 3, words
    assert len(told.splitlines()) == 1, told  # nothing of Ray's
    for path in made.rglob("visits/*/*.parquet"):
        other = folder / "index" / path.relative_to(made)
        assert parquet.read_table(other).equals(parquet.read_table(path)), path.name


def _family(root: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    ours = {root}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return ours


def _listening(root: int) -> set[str]:
    """Addresses, as the kernel writes them, that a process and all below it listen on."""
    inodes = set()
    for number in _family(root):
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{number}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in inodes:
                found.add(parts[1].partition(":")[0])
    return found


@pytest.mark.slow
def test_videos_are_read_from_s3(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket="videos")
        name = "yard/20260131T120000Z.mp4"
        client.upload_file(str(videos / name), "videos", f"archive/{name}")
        uri = f"s3://videos/archive?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        result = call(
            INDEX, "--videos", uri, "--out", tmp_path / "a", "--workers", 1, "--segment-s", SEGMENT_S, "--fps", FPS
        )
        assert result.returncode == 0, result.stderr
        local = index(videos / "yard", tmp_path / "b", "--camera", "yard")
        assert local.returncode == 0
    finally:
        server.stop()
    theirs, ours = visits(tmp_path / "a"), visits(tmp_path / "b")
    assert [row["embedding"] for row in theirs] == [row["embedding"] for row in ours]


def test_the_pace_counts_from_the_first_segments_begin_not_from_the_start_of_workers() -> None:
    progress = Progress(3, 90.0, 0)
    done = {"state": "analysed", "rows": 1, "seconds": 30.0, "cpu_s": 1.0, "note": "", "video": "a", "segment": "a/0"}
    progress._began -= 100.0  # so long did the workers take
    progress.note({**done, "wall_s": 6.0})
    assert progress.wall_s == pytest.approx(6.0, abs=1.0)
    progress.note({**done, "wall_s": 9.0})  # the other worker's, begun earlier
    assert progress.wall_s == pytest.approx(9.0, abs=1.0)
    progress.note({**done, "wall_s": 1.0})
    assert progress.wall_s == pytest.approx(9.0, abs=1.0)
    assert "x real time" in progress.words()
