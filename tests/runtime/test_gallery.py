"""The gallery as a file that lives for years: ids, merges, negative views, expiry, undo, copies, encryption."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import assert_user_error, call

from personsearch.core.bundle import read_manifest
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import GalleryError
from personsearch.core.odds import Evidence, Odds
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.decisions import gallery_copies, gallery_file
from personsearch.runtime.decisions.enrolment import check_likeness, cut_out, from_picture
from personsearch.runtime.decisions.evidence import TrackEvidence, View
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import (
    FIRST_FORMAT,
    changing,
    enrol,
    load_gallery,
    save_gallery,
    undo,
)
from personsearch.runtime.decisions.gallery_keys import KEEP_RETIRED_DAYS, keys_file, load_keyring, parse_key
from personsearch.runtime.decisions.gallery_record import packed, unpacked
from personsearch.runtime.decisions.gallery_undo import undo_file
from personsearch.runtime.decisions.judge import Judge
from personsearch.runtime.decisions.lineup import EXCLUDED, Lineup
from personsearch.runtime.decisions.person import Details, derived_id, expiry_date
from personsearch.runtime.settings import MatchSettings

MODEL, D = "a" * 16, 8
FILE = (MODEL, D)


def look(number: int, towards: int | None = None, share: float = 0.0) -> np.ndarray:
    """A direction of its own for each number, turned towards another one."""
    vector = np.eye(D, dtype=np.float32)[number]
    if towards is not None:
        vector = (1 - share) * vector + share * np.eye(D, dtype=np.float32)[towards]
    return vector / np.linalg.norm(vector)


def view(number: int, **more: object) -> EnrolledView:
    return EnrolledView(look(number), **more)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.gallery"


def load(path: Path, key: str = "") -> Gallery:
    return load_gallery(path, MODEL, D, key)


def listed(path: Path) -> dict[str, int]:
    return {name: len(load(path).views_of(name)) for name in load(path).people}


def test_who_was_not_changed_is_neither_made_nor_packed_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("Ada", "Ben", "Cleo")):
        enrol(path, *FILE, name, [view(number)])
    before = load(path)
    packing: list[str] = []
    monkeypatch.setattr(gallery_file, "packed", lambda person: packing.append(person.name) or packed(person))
    with changing(path, *FILE, "noted") as gallery:
        ada = gallery.person("Ada")
        gallery.put(replace(ada, details=Details(note="left handed")))
    after = load(path)
    assert set(packing) == {"Ada"}
    assert [after.person(name) is before.person(name) for name in ("Ada", "Ben", "Cleo")] == [False, True, True]
    assert after.person("Ada").details.note == "left handed"
    assert gallery.record_of(after.person("Ben")) is None  # bytes are held no longer than the change takes


# --- ids ----------------------------------------------------------------------------------------------------------


def test_an_id_says_nothing_about_the_person_and_outlives_renames(path: Path) -> None:
    enrol(path, *FILE, "Ada", [view(0)])
    made = load(path)
    person = made.id_of("Ada")
    assert person.startswith("p-")
    assert person != derived_id("Ada")
    made.rename("Ada", "Ada Lovelace")
    assert made.id_of("Ada Lovelace") == person
    assert made.name_of(person) == "Ada Lovelace"
    assert made.name_of("p-000000000000") is None
    assert made.id_of("Ada") == derived_id("Ada")  # nobody (any more): still an answer, for what is under way
    with pytest.raises(GalleryError, match="not enrolled"):
        made.person("Ada")


def test_a_gallery_of_an_earlier_format_gets_ids_from_names_and_keeps_them_when_it_is_written(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(
            file, format=np.array(FIRST_FORMAT), model_hash=np.array(MODEL), names=np.array(["Ada", "Zoe\u0308"]),
            embeddings=np.eye(D, dtype=np.float32)[:2],
        )  # fmt: skip
    old = load(path)
    assert old.id_of("Zoë") == derived_id("Zoë") == old.person("Zoe\u0308").id
    enrol(path, *FILE, "Bo", [view(2)])
    new = load(path)
    assert (new.people, new.id_of("Zoë")) == (["Ada", "Bo", "Zoë"], derived_id("Zoë"))
    undo(path, *FILE)
    assert load(path).people == ["Ada", "Zoë"]


def test_names_of_any_script_and_all_details_survive_the_file(path: Path) -> None:
    crop = cut_out(np.full((60, 30, 3), 90, np.uint8), np.array([5, 5, 20, 50], np.float32))
    for number, name in enumerate(["علی‌رضا", "李小龍", "👨‍👩‍👧‍👦", 'O\'Brien "Bo"']):
        enrol(path, *FILE, name, [view(number, source="yard", quality=0.5, time=5.0, origin="träck.jpg", crop=crop)])
    with changing(path, *FILE, "described") as made:
        details = Details(("staff", "夜"), "note", "2026-12-31")
        made.put(replace(made.person("李小龍"), details=details, negatives=(view(7),)))
    again = load(path).person("李小龍")
    assert (again.details, again.negatives[0].embedding[7]) == (details, 1)
    (kept,) = again.views
    assert (kept.source, kept.quality, kept.time, kept.origin) == ("yard", 0.5, 5.0, "träck.jpg")
    assert kept.crop is not None
    assert kept.crop.jpeg == crop.jpeg
    assert gallery_copies.read_crop(kept.crop).shape == (55, 25, 3)  # type: ignore[union-attr]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_record_is_read_as_it_was_written_or_not_at_all() -> None:
    made = Gallery(MODEL, D)
    made.add("Ada", view(0, crop=cut_out(np.zeros((40, 20, 3), np.uint8), np.array([0, 0, 20, 40], np.float32))))
    data = packed(made.person("Ada"))
    assert packed(unpacked(data, D)) == data
    acting = data.replace(b'"Ada"', b'"A\x7fa"')
    for damaged in (b"", data[:3], data[:-1], data + b"x", acting, data[:40], b"\xff" * 99):
        with pytest.raises(ValueError, match=r"."):
            unpacked(damaged, D)
    with pytest.raises(ValueError, match=r"."):
        unpacked(data, D + 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.97])
def test_a_truncated_gallery_is_refused_and_kept(path: Path, share: float) -> None:
    enrol(path, *FILE, "Ada", [view(0)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole)) or 1])
    with pytest.raises(GalleryError, match="not a readable gallery"):
        load(path)
    with pytest.raises(GalleryError, match="not a readable gallery"):
        enrol(path, *FILE, "Bo", [view(1)])
    assert len(path.read_bytes()) < len(whole)


# --- merge, rename, negative views ------------------------------------------------------------------------------------


def test_merged_people_are_one_and_can_be_taken_apart_years_later(path: Path) -> None:
    made = Gallery(MODEL, D)
    made.add("Ada", view(0))
    made.add("A. L.", view(1, source="yard"))
    ada, other = made.id_of("Ada"), made.id_of("A. L.")
    made.merge("Ada", "A. L.")
    save_gallery(made, path)
    made = load(path)
    assert made.people == ["Ada"]
    assert [v.merged_from for v in made.views_of("Ada")] == ["", other]
    assert made.name_of(other) == "Ada"  # events from before say who it is
    made.rename("Ada", "Countess")
    assert made.unmerge("A. L.") == "Countess"
    assert (made.id_of("A. L."), made.id_of("Countess")) == (other, ada)
    assert [v.source for v in made.views_of("A. L.")] == ["yard"]
    assert len(made.views_of("Countess")) == 1
    for refused in (("Countess", "Countess"), ("Countess", "Nobody")):
        with pytest.raises(GalleryError):
            made.merge(*refused)
    with pytest.raises(GalleryError, match="merge them"):
        made.rename("Countess", "A. L.")
    with pytest.raises(GalleryError, match="nobody was merged"):
        made.unmerge("A. L.")


def test_whoever_looks_more_like_a_negative_view_is_not_matched() -> None:
    made = Gallery(MODEL, D)
    made.add("Ada", EnrolledView(look(0), "yard"))
    made.add("Bo", EnrolledView(look(1), "yard"))
    stranger, ada = look(0, 5, 0.3), look(0, 6, 0.3)
    offsets = lambda _: np.zeros(D, np.float32)  # noqa: E731
    before = Lineup(made, offsets).similarities(np.array([stranger, ada]))
    made.add("Ada", EnrolledView(look(0, 5, 0.35), "yard"), negative=True)
    after = Lineup(made, offsets).similarities(np.array([stranger, ada]))
    assert before[0, 0] > 0.9
    assert after[0, 0] == EXCLUDED
    assert after[1, 0] == before[1, 0]  # Ada herself is still Ada
    assert (after[:, 1] == before[:, 1]).all()
    assert check_likeness(made, "Ada", [EnrolledView(look(0, 5, 0.34), "yard")]) == [
        "this looks like somebody who was said not to be Ada (--not)"
    ]


def odds() -> Odds:
    return Odds(
        impostor=((0.0, 0.5), (0.5, 1e-2), (0.9, 1e-5)), evidence=(Evidence(views=1, slope=10.0, offset=-5.0),),
        pairs=100_000, source="test",
    )  # fmt: skip


def seen(vector: np.ndarray) -> TrackEvidence:
    track = TrackEvidence()
    for number in range(5):
        track.add(View(vector, 1.0, float(number)))
    return track


@pytest.mark.parametrize("how", ["removed", "renamed", "not her", "nobody left"])
def test_a_name_already_given_is_taken_back_when_the_gallery_says_so(how: str) -> None:
    made = Gallery(MODEL, D)
    made.add("Ada", EnrolledView(look(0), "yard"))
    if how != "nobody left":
        made.add("Bo", EnrolledView(look(1), "yard"))
    offsets = lambda _: np.zeros(D, np.float32)  # noqa: E731
    judge, track = Judge(MatchSettings(threshold=0.8), odds(), Lineup(made, offsets)), seen(look(0, 5, 0.3))
    judge.look([track], np.zeros(D))
    assert (track.decision.state, track.decision.person) == ("recognised", "Ada")
    if how == "renamed":
        made.rename("Ada", "Zoe")
    elif how == "not her":
        made.add("Ada", EnrolledView(look(0, 5, 0.3), "yard"), negative=True)
    else:
        made.remove("Ada")
    judge.lineup = Lineup(made, offsets)
    judge.again([track])
    judge.look([track], np.zeros(D))
    assert "Ada" not in (track.decision.person, track.decision.runner_up) or how == "not her"
    assert (track.decision.state == "recognised") == (how == "renamed")


# --- expiry -----------------------------------------------------------------------------------------------------------


def test_an_expired_person_is_not_matched_from_the_day_after_on() -> None:
    made = Gallery(MODEL, D)
    for number, name in enumerate(["Ada", "Bo"]):
        made.add(name, view(number))
    made.put(replace(made.person("Ada"), details=Details(expires="2026-03-01")))
    evening = time.mktime((2026, 3, 1, 23, 59, 59, 0, 0, -1))
    assert made.current(evening).people == ["Ada", "Bo"]
    assert made.next_expiry(evening) == evening + 1
    later = made.current(evening + 1)
    assert (later.people, later.embeddings.shape, later.name_of(made.id_of("Ada"))) == (["Bo"], (1, D), None)
    assert made.next_expiry(evening + 1) == np.inf
    assert made.people == ["Ada", "Bo"]  # in the file until retention erases them
    with pytest.raises(GalleryError, match="expected a date"):
        expiry_date("31.12.2026")


# --- undo -------------------------------------------------------------------------------------------------------------


def test_the_last_changes_are_taken_back_one_by_one(path: Path) -> None:
    enrol(path, *FILE, "Ada", [view(0)])
    enrol(path, *FILE, "Bo", [view(1)])
    enrol(path, *FILE, "Ada", [view(2)])
    with changing(path, *FILE, "merged") as made:
        made.merge("Ada", "Bo")
    with changing(path, *FILE, "removed") as made:
        made.remove("Ada")
    assert listed(path) == {}
    for kind, state in [
        ("removed", {"Ada": 3}), ("merged", {"Ada": 2, "Bo": 1}), ("enrolled", {"Ada": 1, "Bo": 1}),
        ("enrolled", {"Ada": 1}), ("enrolled", {}),
    ]:  # fmt: skip
        assert undo(path, *FILE).kind == kind
        assert listed(path) == state
    with pytest.raises(GalleryError, match="no change to undo"):
        undo(path, *FILE)


def test_undo_knows_changes_that_never_came_to_be_and_galleries_that_came_from_elsewhere(path: Path) -> None:
    enrol(path, *FILE, "Ada", [view(0)])
    before = path.read_bytes()
    enrol(path, *FILE, "Bo", [view(1)])
    path.write_bytes(before)  # as if killed after the undo log was written, before the gallery was
    assert undo(path, *FILE).kind == "enrolled"
    assert listed(path) == {}
    enrol(path, *FILE, "Cy", [view(2)])
    save_gallery(load(path), path)  # by a program that keeps no undo log
    with pytest.raises(GalleryError, match="no change to undo"):
        undo(path, *FILE)
    assert listed(path) == {"Cy": 1}


def test_the_undo_log_holds_neither_names_nor_embeddings(path: Path) -> None:
    enrol(path, *FILE, "Xanthippe", [view(0)])
    with changing(path, *FILE, "removed") as made:
        made.remove("Xanthippe")
    for file in path.parent.iterdir():
        assert b"Xanthippe" not in file.read_bytes(), file
        assert look(0).tobytes() not in file.read_bytes(), file
    assert undo_file(path).exists()
    assert keys_file(path).stat().st_mode & 0o777 == 0o600


def test_a_key_outlives_its_person_for_thirty_days_only(path: Path) -> None:
    enrol(path, *FILE, "Ada", [view(0)])
    gallery_copies.backup(path, *FILE, path.parent / "copy")
    with changing(path, *FILE, "removed") as made:
        person = made.id_of("Ada")
        made.remove("Ada")
    ring = load_keyring(keys_file(path), None)
    now = time.time()
    ring.retire([], now + (KEEP_RETIRED_DAYS - 1) * 86400)
    assert person in ring
    ring.retire([], now + (KEEP_RETIRED_DAYS + 1) * 86400)
    assert person not in ring


def _enrol_many(path: Path, who: str) -> None:
    for number in range(8):
        enrol(path, *FILE, f"{who} {number}", [view(number)])


def test_two_programs_that_enrol_at_once_lose_nobody(path: Path) -> None:
    start = multiprocessing.get_context("fork")
    both = [start.Process(target=_enrol_many, args=(path, who)) for who in ("Left", "Right")]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(load(path).people) == 16


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_backup_brings_everybody_back_but_those_who_were_forgotten(path: Path) -> None:
    copy = path.parent / "copy"
    for number, name in enumerate(["Ada", "Bo", "Cy"]):
        enrol(path, *FILE, name, [view(number)])
    assert gallery_copies.backup(path, *FILE, copy) == 3
    assert b"Ada" not in copy.read_bytes()
    assert look(0).tobytes() not in copy.read_bytes()
    with changing(path, *FILE, "removed") as made:
        for name in ("Ada", "Bo", "Cy"):
            made.remove(name)
        made.add("New", view(4))
    ring = load_keyring(keys_file(path), None)
    bo = gallery_copies.gallery_of(copy, gallery_copies.read_arrays(copy), D, ring).id_of("Bo")
    ring.destroy(bo)
    ring.save()
    brought = gallery_copies.restore(path, *FILE, copy)
    assert (sorted(brought.added), brought.removed, brought.forgotten) == (["Ada", "Cy"], ["New"], 1)
    assert listed(path) == {"Ada": 1, "Cy": 1}
    undo(path, *FILE)
    assert listed(path) == {"New": 1}
    with pytest.raises(GalleryError, match="only its own box"):
        gallery_copies.take_in(path, *FILE, copy)
    with pytest.raises(GalleryError, match="is no backup"):
        gallery_copies.restore(path, *FILE, path)


@pytest.mark.parametrize("sealed", [False, True])
def test_an_export_is_one_file_that_another_box_takes_in(path: Path, sealed: bool) -> None:
    there, file = path.parent / "there.gallery", path.parent / "export"
    seal = f"file:{path.parent / 'export.key'}" if sealed else ""
    enrol(path, *FILE, "Ada", [view(0)])
    enrol(path, *FILE, "Bo", [view(1)])
    assert gallery_copies.export(path, *FILE, file, seal=seal) == 2
    assert (b"Ada" in file.read_bytes()) != sealed
    assert gallery_copies.take_in(there, *FILE, file, seal=seal).added == ["Ada", "Bo"]
    assert gallery_copies.take_in(there, *FILE, file, seal=seal).added == []
    enrol(path, *FILE, "Ada", [view(2)])
    gallery_copies.export(path, *FILE, file, seal=seal)
    assert gallery_copies.take_in(there, *FILE, file, seal=seal).changed == ["Ada"]
    assert len(load(there).views_of("Ada")) == 2
    with changing(there, *FILE, "renamed") as made:
        made.remove("Bo")
        made.add("Bo", view(3))  # another Bo
    with pytest.raises(GalleryError, match="has that name"):
        gallery_copies.take_in(there, *FILE, file, seal=seal)
    if sealed:
        (path.parent / "other.key").write_bytes(b"x" * 32)
        with pytest.raises(GalleryError, match="another key"):
            gallery_copies.take_in(there, *FILE, file, seal=f"file:{path.parent / 'other.key'}")
        with pytest.raises(GalleryError, match="--export-key"):
            gallery_copies.take_in(there, *FILE, file)


def test_for_another_model_kept_pictures_are_described_again_and_the_others_are_listed(path: Path) -> None:
    picture = np.zeros((50, 30, 3), np.uint8)
    picture[:, :, 2] = 200
    crop = cut_out(picture, np.array([4, 4, 26, 46], np.float32))
    enrol(path, *FILE, "Ada", [view(0, crop=crop), view(1)])
    enrol(path, *FILE, "Bo", [view(2)])

    def embed(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        assert image.shape[:2] == (50, 30)
        assert abs(boxes[0] - [4, 4, 26, 46]).max() < 1e-5
        return np.eye(4, dtype=np.float32)[[int(image[..., 2].mean() > 100)]]

    new, anew = gallery_copies.re_embed(path, path.parent / "new", "b" * 16, 4, embed)
    assert (new.people, anew) == (["Ada"], ["Bo"])
    again = load_gallery(path.parent / "new", "b" * 16, 4)
    assert again.embeddings.tolist() == [[0, 1, 0, 0]]
    assert again.id_of("Ada") == load(path).id_of("Ada")
    with pytest.raises(GalleryError, match="exists already"):
        gallery_copies.re_embed(path, path.parent / "new", "b" * 16, 4, embed)


def test_a_kept_picture_is_described_as_the_frame_was(path: Path, searcher: BundleSearcher) -> None:
    """By the shipped model, which then stands for the new one: the same person, as far as JPEG and the cut leave it."""
    frame = Street(StreetSettings(seed=7, people=5, cameras=3, identities=15)).frame(1, 10)
    box = frame.boxes[int(np.argmax(frame.visible))]
    cv2.imwrite(str(path.parent / "p.png"), frame.image)
    seen = from_picture(searcher, path.parent / "p.png", box)
    model = (searcher.manifest.model_hash, searcher.dimensions)
    enrol(path, *model, "Ada", [EnrolledView(seen.embedding, crop=seen.crop)])
    new, _ = gallery_copies.re_embed(path, path.parent / "new", *model, searcher.embed)
    assert float(new.embeddings[0] @ load_gallery(path, *model).embeddings[0]) > 0.95


# --- encryption -------------------------------------------------------------------------------------------------------


def test_an_encrypted_gallery_needs_its_key_and_hides_everything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"file:{path.parent / 'box.key'}"
    enrol(path, *FILE, "Ada", [view(0)])
    gallery_copies.encrypt(path, *FILE, key)
    enrol(path, *FILE, "Bo", [view(1)], key)
    enrol(path, *FILE, "Ada", [view(2)], key)
    assert load(path, key).people == ["Ada", "Bo"]
    secret = parse_key((path.parent / "box.key").read_bytes(), key)
    for file in path.parent.iterdir():
        content = file.read_bytes()
        assert not any(mark in content for mark in (b"Ada", look(0).tobytes(), secret)), file
    undo(path, *FILE, key)
    assert len(load(path, key).views_of("Ada")) == 1
    with pytest.raises(GalleryError, match="name it: file:PATH"):
        load(path)
    monkeypatch.setenv("PERSONSEARCH_BOX_KEY", (path.parent / "box.key").read_text())
    assert load(path).people == ["Ada", "Bo"]
    monkeypatch.delenv("PERSONSEARCH_BOX_KEY")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    (path.parent / "personsearch-box-key").write_bytes(secret)
    assert load(path).people == load(path, "credential:box.key").people == ["Ada", "Bo"]
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    (path.parent / "wrong.key").write_bytes(b"y" * 32)
    with pytest.raises(GalleryError, match="not with"):
        load(path, f"file:{path.parent / 'wrong.key'}")
    with pytest.raises(GalleryError, match="not with"):
        enrol(path, *FILE, "Cy", [view(3)], f"file:{path.parent / 'wrong.key'}")
    for bad in ("file:/nowhere", "env:NOT_THERE", "credential:x", "box.key", "file:", f"file:{path}"):
        with pytest.raises(GalleryError, match="the box's key"):
            load(path, bad)
    assert gallery_copies.decrypt(path, *FILE, key) == 2
    assert load(path).people == ["Ada", "Bo"]
    undo(path, *FILE)
    with pytest.raises(GalleryError, match="not encrypted"):
        gallery_copies.decrypt(path, *FILE, key)


def test_a_changed_record_and_a_missing_file_of_keys_are_told(path: Path) -> None:
    key = f"file:{path.parent / 'box.key'}"
    enrol(path, *FILE, "Ada", [view(0)])
    gallery_copies.encrypt(path, *FILE, key)
    made = load(path, key)
    sealed = made.keyring.seal(made.id_of("Ada"), b"something", MODEL)  # type: ignore[union-attr]
    with pytest.raises(GalleryError, match="damaged"):
        made.keyring.unseal(made.id_of("Ada"), sealed[:-1] + b"\0", MODEL)  # type: ignore[union-attr]
    keys_file(path).write_text("{")
    with pytest.raises(GalleryError, match="not valid JSON"):
        load(path, key)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_keeps_the_gallery_and_the_audit_log(tmp_path: Path, shipped_bundle: Path) -> None:
    manifest = read_manifest(shipped_bundle)
    path, dimensions = tmp_path / "g", manifest.dimensions
    rows = np.eye(dimensions, dtype=np.float32)
    for number, name in enumerate(["Ada", "A. L.", "Bo"]):
        enrol(path, manifest.model_hash, dimensions, name, [EnrolledView(rows[number], "yard")])
    log = tmp_path / "g.audit"
    assert call("runtime/audit.py", log, "--begin").returncode == 0

    def enroll(*arguments: object) -> str:
        result = call("runtime/enroll.py", "--gallery", path, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "renamed Ada to Ada Lovelace" in enroll("--rename", "Ada", "Ada Lovelace")
    assert "2 view(s)" in enroll("--merge", "Ada Lovelace", "A. L.")
    enroll("--name", "Bo", "--label", "staff", "--label", "night", "--note", "knows", "--expires", "2020-01-31")
    listing = enroll("--list")
    assert "Ada Lovelace\t2 views\tyard\tp-" in listing
    assert "with A. L." in listing
    assert "[staff] [night] EXPIRED 2020-01-31" in listing
    assert "from A. L." in enroll("--show", "Ada Lovelace")
    record = json.loads(enroll("--show", "Bo", "--json"))
    assert (record["labels"], record["expires"], record["note"]) == (["staff", "night"], "2020-01-31", "knows")
    assert "took A. L. out of Ada Lovelace" in enroll("--unmerge", "A. L.")
    assert "undone: unmerged" in enroll("--undo")
    assert "removed Bo" in enroll("--remove", "Bo")
    assert "undone: removed Bo" in enroll("--undo")
    enroll("--backup", tmp_path / "backup")
    enroll("--export", tmp_path / "export")
    enroll("--encrypt", "--box-key", f"file:{tmp_path / 'box.key'}")
    assert_user_error(call("runtime/enroll.py", "--gallery", path, "--list"), "name it: file:PATH")
    assert "Bo\t1 view" in enroll("--list", "--box-key", f"file:{tmp_path / 'box.key'}")
    enroll("--decrypt", "--box-key", f"file:{tmp_path / 'box.key'}")
    assert "1 added" in enroll("--remove", "Bo") + enroll("--restore", tmp_path / "backup")
    assert "0 added" in enroll("--import", tmp_path / "export")
    kinds = [line.split("\t")[3] for line in call("runtime/audit.py", log).stdout.splitlines()]
    assert kinds == [
        "begun", "renamed", "merged", "described", "unmerged", "undone", "removed", "undone", "backed-up", "exported",
        "encrypted", "decrypted", "removed", "restored", "imported",
    ]  # fmt: skip
    assert "Ada" not in log.read_text()
    assert "unbroken" in call("runtime/audit.py", log, "--verify").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--list", "--undo"), "give either"), (("--name", "Ada"), "needs --name"), (("--not", "Ada"), "needs --name"),
        (("--list", "--label", "x"), "belong to --name"), (("--rename", "Bo", "Cy"), "'Bo' is not enrolled"),
        (("--merge", "Ada", "Ada"), "with itself"), (("--unmerge", "Ada"), "nobody was merged"),
        (("--undo",), "no change to undo"), (("--name", "Ada", "--expires", "soon"), "expected a date"),
        (("--name", "Nobody", "--label", "x"), "'Nobody' is not enrolled"), (("--show", "Bo"), "'Bo' is not enrolled"),
        (("--name", "Ada", "--label", "x" * 65), "at most 32 labels"), (("--encrypt",), "name the box's key"),
        (("--name", "Ada", "--note", "x" * 2001), "at most 2000"), (("--decrypt",), "not encrypted"),
        (("--restore", "/nowhere"), "no such gallery"), (("--import", "/nowhere"), "cannot be read"),
        (("--export", "/proc/x/y"), "cannot be written"), (("--backup", "/proc/x/y"), "cannot be written"),
        (("--name", "Ada", "--track", "yard/1", "--keep-crops"), "gives no pictures"),
        (("--re-embed", "/tmp"), "exists already"),
    ],
)  # fmt: skip
def test_wrong_input_is_said_in_one_line_and_changes_nothing(
    tmp_path: Path, shipped_bundle: Path, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(shipped_bundle)
    path = tmp_path / "g"
    made = Gallery(manifest.model_hash, manifest.dimensions)
    made.add("Ada", EnrolledView(np.eye(manifest.dimensions, dtype=np.float32)[0]))
    save_gallery(made, path)
    monkeypatch.setattr("personsearch.core.engines.searcher.BundleSearcher.__init__", lambda *_: None)
    monkeypatch.setattr("personsearch.core.engines.searcher.BundleSearcher.embed", cv2.imread, raising=False)
    before = path.read_bytes()
    assert_user_error(call("runtime/enroll.py", "--gallery", path, *arguments), words)
    assert path.read_bytes() == before
