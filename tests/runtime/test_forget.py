"""Erasing people: every file is searched byte by byte afterwards, with a stream running and without."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import assert_user_error, call

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import wait_for

from personsearch.core.bundle import read_manifest
from personsearch.core.config import load_settings
from personsearch.core.errors import GalleryError
from personsearch.runtime.decisions import gallery_copies
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import changing, enrol, load_gallery, save_gallery, undo
from personsearch.runtime.decisions.gallery_keys import Keyring, keys_file, load_keyring
from personsearch.runtime.decisions.gallery_undo import undo_file
from personsearch.runtime.decisions.people import People
from personsearch.runtime.decisions.person import Details, derived_id
from personsearch.runtime.delivery.erasing import erase_person, patterns, traces, without
from personsearch.runtime.delivery.events import encode_text
from personsearch.runtime.delivery.journal import Journal
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.operations import forget as forgetting
from personsearch.runtime.operations import forget_gallery
from personsearch.runtime.operations.audit import AuditLog, entries, verify
from personsearch.runtime.operations.forget import Eraser, forget
from personsearch.runtime.operations.forget_gallery import Forgotten, unfinished
from personsearch.runtime.operations.place import Place
from personsearch.runtime.operations.reload import Reloader
from personsearch.runtime.operations.retention import Retention
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import JournalSettings, StreamSettings

MODEL, D = "a" * 16, 32
FILE = (MODEL, D)
NAME = "Xanthippe Ø"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals of other programs on this machine are not ours to look into."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def look(number: int) -> np.ndarray:
    vector = np.random.default_rng(number).normal(size=D).astype(np.float32)
    return vector / np.linalg.norm(vector)


def event(person: str, runner_up: str = "", camera: str = "door", **more: object) -> dict[str, object]:
    margin = 0.1 if runner_up else None
    return {"type": "match", "camera": camera, "person": person, "runner_up": runner_up, "margin": margin, **more}


def journal_of(path: Path, *events: dict[str, object]) -> Journal:
    journal = Journal(path, JournalSettings(path=str(path)))
    journal.append(list(events))
    return journal


def files_with(folder: Path, *wanted: bytes) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file() and any(mark in f.read_bytes() for mark in wanted)]


def place_of(folder: Path, key: str = "") -> Place:
    return Place(folder / "people.gallery", MODEL, D, key, str(folder / "events.journal"), AuditLog(folder / "audit"))


@pytest.mark.parametrize("encrypted", [False, True])
def test_nothing_is_left_of_a_forgotten_person_and_all_is_left_of_others(tmp_path: Path, encrypted: bool) -> None:
    key = f"file:{tmp_path / 'box.key'}" if encrypted else ""
    place = place_of(tmp_path, key)
    path = place.gallery
    for number, name in enumerate([NAME, "Bo", "Cy"]):
        enrol(path, *FILE, name, [EnrolledView(look(number), "yard", origin=f"{name}.jpg")])
    if encrypted:
        gallery_copies.encrypt(path, *FILE, key)
    enrol(path, *FILE, NAME, [EnrolledView(look(7))], key)
    with changing(path, *FILE, "said not to be", key) as made:
        made.add("Bo", EnrolledView(look(0)), negative=True)  # the stranger taken for Bo was Xanthippe
        made.add("Bo", EnrolledView(look(9)), negative=True)
    enrol(path, *FILE, "Cy", [EnrolledView(look(8))], key)
    gallery_copies.backup(path, *FILE, tmp_path / "backup", key)
    person, bo = load_gallery(path, *FILE, key).id_of(NAME), load_gallery(path, *FILE, key).id_of("Bo")
    journal_of(
        tmp_path / "events.journal", *(event(NAME if n % 3 == 0 else "Bo", "Cy") for n in range(3000)),
        event("Bo", NAME), event(person), {"type": "settings", "state": "rejected", "reason": f"'{NAME}' is not good"},
    ).close()  # fmt: skip
    told: list[Forgotten] = []
    history = Eraser("history", lambda who: told.append(who) or 3)  # type: ignore[func-returns-value]
    receipt = forget(place, NAME, [history])
    assert receipt["complete"], receipt
    assert told == [Forgotten(person, (person, derived_id(NAME)), (NAME,))]
    assert receipt["history"] == {"deleted": 3}
    (journal,) = receipt["journals"]
    assert (journal["deleted"], journal["blotted"], journal["stream"]) == (1001, 2, "stopped")
    assert (receipt["gallery"]["views"], receipt["gallery"]["negative_views_of_others"]) == (2, 1)
    assert receipt["undo_log"]["changes"] > 0
    assert receipt["keys"]["destroyed"] == 1
    assert NAME not in json.dumps(receipt, ensure_ascii=False)
    # Every file, byte by byte: the name, as UTF-8 and as numpy's UTF-32, and both embeddings.
    marks = (NAME.encode(), NAME.encode("utf-32-le"), look(0).tobytes()[:24], look(7).tobytes()[:24])
    assert files_with(tmp_path, *marks) == []
    assert files_with(tmp_path, person.encode()) == [], "an id is left in another file than the audit log"
    # The others.
    left = load_gallery(path, *FILE, key)
    assert (left.people, left.id_of("Bo"), len(left.person("Bo").negatives)) == (["Bo", "Cy"], bo, 1)
    with sqlite3.connect(tmp_path / "events.journal") as database:
        bodies = [json.loads(body) for (body,) in database.execute("select body from events order by sequence")]
    assert len(bodies) == 2002
    assert sum(e.get("person") == "Bo" for e in bodies) == 2001
    assert [e["runner_up"] for e in bodies[-2:-1]] == [""]
    assert bodies[-1]["reason"] == "'[erased]' is not good"
    # What can be taken back is still taken back, without the forgotten.
    undo(path, *FILE, key)
    assert len(load_gallery(path, *FILE, key).views_of("Cy")) == 1
    assert NAME not in gallery_copies.restore(path, *FILE, tmp_path / "backup", key).added
    assert load_gallery(path, *FILE, key).people == ["Bo", "Cy"]
    with pytest.raises(GalleryError, match="nothing to erase"):
        forget(place, NAME)
    assert not unfinished(path)


def test_merged_and_removed_people_are_forgotten_too(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    path = place.gallery
    for number, name in enumerate([NAME, "Second Name", "Bo"]):
        enrol(path, *FILE, name, [EnrolledView(look(number))])
    ids = [load_gallery(path, *FILE).id_of(name) for name in (NAME, "Second Name")]
    with changing(path, *FILE, "merged") as made:
        made.merge(NAME, "Second Name")
    with pytest.raises(GalleryError, match="forget that one"):
        forget(place, "Second Name")
    with changing(path, *FILE, "removed") as made:
        made.remove(NAME)
    journal_of(tmp_path / "events.journal", event("Second Name"), event(ids[1]), event("Bo")).close()
    receipt = forget(place, ids[0])
    assert (receipt["complete"], receipt["person"], receipt["journals"][0]["deleted"]) == (True, ids[0], 2)
    assert files_with(tmp_path, b"Second Name", look(0).tobytes(), look(1).tobytes(), ids[1].encode()) == []
    assert not undo_file(path).exists() or b"null" in undo_file(path).read_bytes()


@pytest.mark.parametrize("after", ["keyring.save", "save_gallery", "forget_in_changes", "erase_person"])
def test_an_interrupted_erasure_goes_on_where_it_was(
    tmp_path: Path, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after each of the steps, then the same request again."""
    place = place_of(tmp_path)
    for number, name in enumerate([NAME, "Bo"]):
        enrol(place.gallery, *FILE, name, [EnrolledView(look(number))])
    gallery_copies.backup(place.gallery, *FILE, tmp_path / "backup")
    journal_of(tmp_path / "events.journal", event(NAME), event("Bo", NAME)).close()
    owner, step = {"keyring.save": (Keyring, "save"), "erase_person": (forgetting, after)}.get(
        after, (forget_gallery, after)
    )
    real = getattr(owner, step)

    class Killed(BaseException):
        pass

    def killed(*arguments: object, **more: object) -> None:
        real(*arguments, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, killed)
        with pytest.raises(Killed):
            forget(place, NAME)
    unfinished_id = unfinished(place.gallery)
    assert unfinished_id
    with pytest.raises(GalleryError, match="another erasure was interrupted"):
        forget(place, "Bo")
    assert "Bo" in load_gallery(place.gallery, *FILE).people
    if after == "save_gallery":  # the stream finishes it
        assert Retention(place, 30.0, lambda: None).look(time.time()) == [unfinished_id]
    else:
        assert forget(place, NAME)["complete"]
    assert files_with(tmp_path, NAME.encode(), look(0).tobytes()) == []
    assert not unfinished(place.gallery)


def test_somebody_of_whom_only_events_are_left_is_forgotten_and_a_stranger_is_not_found(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    enrol(place.gallery, *FILE, "Bo", [EnrolledView(look(0))])
    journal_of(tmp_path / "events.journal", event("Adam"), event("Ada"), event("Bo", camera="Ada")).close()
    receipt = forget(place, "Ada")
    assert (receipt["journals"][0]["deleted"], receipt["complete"]) == (1, True)
    with sqlite3.connect(tmp_path / "events.journal") as database:
        assert database.execute("select count(*) from events").fetchone() == (2,)  # Adam, and the camera called Ada
    with pytest.raises(GalleryError, match="nothing to erase"):
        forget(place, "Nobody")


def test_somebody_of_whom_only_a_backup_is_left_is_forgotten_by_the_id(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    for number, name in enumerate([NAME, "Bo"]):
        enrol(place.gallery, *FILE, name, [EnrolledView(look(number))])
    person = load_gallery(place.gallery, *FILE).id_of(NAME)
    gallery_copies.backup(place.gallery, *FILE, tmp_path / "backup")
    with changing(place.gallery, *FILE, "removed") as made:
        made.remove(NAME)
    undo_file(place.gallery).unlink()
    receipt = forget(place, person)
    assert (receipt["complete"], receipt["keys"]["destroyed"]) == (True, 1)
    brought = gallery_copies.restore(place.gallery, *FILE, tmp_path / "backup")
    assert (brought.added, brought.forgotten) == ([], 1)


def test_damaged_journals_that_were_moved_aside_are_searched_as_well(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    enrol(place.gallery, *FILE, NAME, [EnrolledView(look(0))])
    journal_of(tmp_path / "events.journal", event("Bo")).close()
    aside = tmp_path / "events.journal.damaged-1"
    aside.write_bytes(b"..." + encode_text(event(NAME)).encode() + b"...")
    other = tmp_path / "events.journal.damaged-2"
    other.write_bytes(b"nothing of hers")
    assert forget(place, NAME)["journals"][0]["damaged_files_removed"] == 1
    assert not aside.exists()
    assert other.exists()


def test_an_export_beside_the_gallery_is_named_and_left_to_its_owner(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    enrol(place.gallery, *FILE, NAME, [EnrolledView(look(0))])
    copy = tmp_path / "people.gallery.export"
    gallery_copies.export(place.gallery, *FILE, copy)
    receipt = forget(place, NAME)
    assert (receipt["complete"], receipt["traces_left"]) == (False, [str(copy)])
    copy.unlink()
    assert forget(place, NAME)["complete"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"person":["Ada"]}', b"\xff\xfe", b'{"person":"Ada"}', b'{"name":"Ada"}'],
)
def test_events_that_cannot_be_read_go_as_well(body: bytes) -> None:
    assert without(body, {"Ada"}) is None


def test_events_about_others_keep_their_form() -> None:
    evidence = {"runner_up": "Ada"}
    body = encode_text({"person": "Bo", "runner_up": "Ada", "margin": 0.1, "previous": "Ada", "evidence": evidence})
    assert json.loads(without(body.encode(), {"Ada"}) or b"") == {
        "person": "Bo", "runner_up": "", "margin": None, "previous": None, "evidence": {"runner_up": ""}
    }  # fmt: skip
    untouched = b'{"person":"Bo","reason":"Adam"}'
    assert without(untouched, {"Ada"}) == untouched


# --- the journal's own retention --------------------------------------------------------------------------------------


def test_events_that_are_too_old_leave_no_bytes_even_on_a_quiet_box(tmp_path: Path) -> None:
    path = tmp_path / "j"
    settings = JournalSettings(path=str(path), keep_hours=0.4 / 3600)
    journal = Journal(path, settings)
    journal.append([event(NAME) for _ in range(500)])
    with sqlite3.connect(path) as reader:
        journal.checkpoint(reader)
    assert files_with(tmp_path, NAME.encode()) == [path]
    time.sleep(0.5)
    for _ in range(3):  # what the publisher does each second, whether or not something happens
        journal.flush()
        journal._next_trim = 0.0
    reader = sqlite3.connect(path, isolation_level=None)
    journal._next_truncate = 0.0
    journal.checkpoint(reader)
    assert reader.execute("select count(*) from events").fetchone() == (0,)
    assert files_with(tmp_path, NAME.encode()) == []
    reader.close()
    journal.close()


def test_a_journal_of_an_earlier_version_is_cleaned_of_what_it_deleted(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal_of(path, *(event(NAME) for _ in range(300))).close()
    with sqlite3.connect(path) as database:
        database.execute("pragma secure_delete = off")
        database.execute("delete from events")
        database.execute("pragma user_version = 0")
    database.close()
    assert traces(path, [NAME], [])
    assert erase_person(path, [NAME], []).deleted == 0  # by itself, or:
    assert not traces(path, [NAME], [])
    journal_of(path, event("Bo")).close()
    assert not traces(path, [NAME], [])
    assert patterns([NAME], [])


# --- the gallery's retention ----------------------------------------------------------------------------------------


def test_people_are_erased_some_time_after_they_expired(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    for number, name in enumerate([NAME, "Bo"]):
        enrol(place.gallery, *FILE, name, [EnrolledView(look(number))])
    with changing(place.gallery, *FILE, "described") as made:
        person = made.person(NAME)
        made.put(replace(person, details=Details(expires="2026-03-01")))
    reloads: list[int] = []
    retention = Retention(place, 30.0, lambda: reloads.append(1))
    late = time.mktime((2026, 4, 1, 12, 0, 0, 0, 0, -1))
    assert retention.look(late - 86400) == []
    assert not reloads
    assert retention.look(late) == [person.id]
    assert reloads
    assert files_with(tmp_path, NAME.encode(), look(0).tobytes()) == []
    assert [entry["kind"] for entry in entries(tmp_path / "audit")] == ["expired"]
    # Undo and the keys of people who were taken out end by themselves, too.
    with changing(place.gallery, *FILE, "removed") as made:
        made.remove("Bo")
    assert undo_file(place.gallery).exists()
    assert len(load_keyring(keys_file(place.gallery), None)) == 1
    retention.look(time.time() + 31 * 86400)
    assert not undo_file(place.gallery).exists()
    assert len(load_keyring(keys_file(place.gallery), None)) == 0


def test_a_damaged_journal_is_kept_aside_no_longer_than_a_good_one(tmp_path: Path) -> None:
    old, young = tmp_path / "j.damaged-1", tmp_path / "j.damaged-2"
    for aside in (old, young):
        aside.write_bytes(NAME.encode())
    os.utime(old, (1e9, 1e9))
    journal_of(tmp_path / "j").close()
    assert not old.exists()
    assert young.exists()


def test_a_stream_stops_looking_for_whoever_expires_while_it_runs(
    shipped_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(shipped_bundle)
    made = Gallery(manifest.model_hash, manifest.dimensions)
    for number, name in enumerate([NAME, "Bo"]):
        made.add(name, EnrolledView(np.eye(manifest.dimensions, dtype=np.float32)[number]))
    made.put(replace(made.person(NAME), details=Details(expires="2026-03-01")))
    clock = time.mktime((2026, 3, 1, 23, 0, 0, 0, 0, -1))
    monkeypatch.setattr("personsearch.runtime.decisions.people.time.time", lambda: clock)
    settings = StreamSettings.model_validate({"cameras": [{"name": "door", "url": "0"}]})
    people = People(settings, manifest, made)
    people.add(settings.cameras[0])
    people.every_second(0.0)
    assert people.lineup.people == ["Bo", NAME]
    clock += 3601
    people.every_second(1.0)
    assert people.lineup.people == people.of("door").judge.lineup.people == ["Bo"]
    assert people.enrolled.people == ["Bo", NAME]


# --- while a stream runs --------------------------------------------------------------------------------------------


def test_a_running_stream_lets_go_of_a_forgotten_person(tmp_path: Path, shipped_bundle: Path) -> None:
    """Pipeline, reloader, publisher and journal as they are, without cameras: whoever is enrolled is named ten times a
    second. (A whole stream is in tests/faults/gallery_faults.py.)"""
    manifest = read_manifest(shipped_bundle)
    made = Gallery(manifest.model_hash, manifest.dimensions)
    rows = np.random.default_rng(1).normal(size=(2, manifest.dimensions))
    for name, row in zip([NAME, "Bo"], rows, strict=True):
        made.add(name, EnrolledView(row))
    path, journal, log = tmp_path / "people.gallery", tmp_path / "events.journal", tmp_path / "people.gallery.audit"
    save_gallery(made, path)
    cams = tmp_path / "cams.yaml"
    content = {
        "cameras": [{"name": "door", "url": "synthetic://street"}], "box": "test", "gallery": str(path),
        "journal": {"path": str(journal)}, "publish": {"endpoint": "tcp://127.0.0.1:*"}, "audit": {"path": str(log)},
    }  # fmt: skip
    cams.write_text(yaml.safe_dump(content))
    settings = load_settings(cams, StreamSettings)
    publisher = Publisher(settings.publish, settings.journal, settings.box)
    pipeline = Pipeline(settings, shipped_bundle, manifest, made, publisher.publish)
    reloader = Reloader(cams, path, "", pipeline, AuditLog(log))
    done = threading.Event()

    def turn() -> None:
        while not done.wait(0.1):
            reloader.look(time.monotonic())
            for name in pipeline.gallery.people:
                publisher.publish(event(name, "Bo"))

    stream = threading.Thread(target=turn)
    stream.start()

    def said(name: str) -> int:
        with sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True) as database:
            query = "select count(*) from events where instr(body, ?)"
            return int(database.execute(query, (f'"person":"{name}"'.encode(),)).fetchone()[0])

    try:
        wait_for(lambda: said(NAME) > 3, 30)
        first = call("runtime/forget.py", "--cams", cams, NAME, "--receipt", tmp_path / "receipt", "--wait", 30)
        assert first.returncode == 0, first.stderr
        receipt = json.loads((tmp_path / "receipt").read_text())
        assert receipt["journals"][0]["stream"] == "has taken over the gallery"
        assert files_with(tmp_path, NAME.encode(), rows[0].astype(np.float32).tobytes()[:24]) == []
        before = said("Bo")
        wait_for(lambda: said("Bo") > before + 3, 30)  # it goes on with the others, and never names her again
        cams.write_text(yaml.safe_dump({**content, "match": {"threshold": 0.9}}))
        wait_for(lambda: any(entry["kind"] == "thresholds" for entry in entries(log)), 30)
    finally:
        done.set()
        stream.join()
        publisher.close()
    assert files_with(tmp_path, NAME.encode()) == []
    assert [entry["kind"] for entry in entries(log)] == ["forgotten", "thresholds"]
    assert not verify(log).fault


def test_a_stream_that_does_not_take_over_is_told(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    for number, name in enumerate([NAME, "Bo"]):
        enrol(place.gallery, *FILE, name, [EnrolledView(look(number))])
    journal = journal_of(tmp_path / "events.journal", event(NAME))  # held open, as a stream does
    receipt = forget(place, NAME, wait_s=0.3)
    assert not receipt["complete"]
    assert "watch_files" in receipt["journals"][0]["stream"]
    assert not traces(tmp_path / "events.journal", [NAME], [])  # what is there goes all the same
    time.sleep(0.01)
    journal.append([event(NAME), {"type": "settings", "state": "applied", "reason": ""}])
    journal._database.execute("update events set wall = wall + 3600 where topic = 'settings'")
    assert forget(place, NAME, wait_s=0.3)["complete"]
    journal.close()
    assert files_with(tmp_path, NAME.encode()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Nobody",), ("give --cams",)), (("Nobody", "--gallery", "{g}"), ("nothing to erase",)),
        (("", "--gallery", "{g}"), ("visible",)), (("Bo", "--gallery", "/nowhere"), ("no such gallery",)),
        (("Bo", "--gallery", "{g}", "--audit", "/proc/none"), ("audit log cannot be written",)),
        (("Bo", "--gallery", "{g}", "--box-key", "file:/nowhere"), ("the box's key",)),
    ],
)  # fmt: skip
def test_wrong_requests_erase_nothing(
    tmp_path: Path, shipped_bundle: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    manifest = read_manifest(shipped_bundle)
    path = tmp_path / "g"
    enrol(path, manifest.model_hash, manifest.dimensions, "Bo", [EnrolledView(np.eye(manifest.dimensions)[0])])
    given = [argument.replace("{g}", str(path)) for argument in arguments]
    assert_user_error(call("runtime/forget.py", *given), *words)
    assert load_gallery(path, manifest.model_hash, manifest.dimensions).people == ["Bo"]
