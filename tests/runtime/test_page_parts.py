"""What the page makes of events, of cams.yaml and of the gallery: without a stream, on real files."""

import copy
import csv
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs personsearch[page]")

import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import some_gallery
from pydantic import ValidationError

from personsearch.core.bundle import read_manifest
from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError, GalleryError, UserError
from personsearch.core.resources import shipped
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.gallery_file import begin_gallery, load_gallery, save_gallery
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.decisions.person import derived_id as person_id
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.operations.reviews import Answer
from personsearch.runtime.operations.reviews import forget_person as forget_reviews
from personsearch.runtime.page.cams import Cams, Change, edited
from personsearch.runtime.page.people import People, best_views
from personsearch.runtime.page.reviewing import Reviewing, effect
from personsearch.runtime.page.sightings import Row, Sightings, as_csv, in_words, odds_in_words, span
from personsearch.runtime.settings import StreamSettings, default_bundle

MANIFEST = read_manifest(default_bundle())
T = 1_700_000_000.0


def match(sequence: int, at: float, person: str = "Ada", kind: str = "match", **more: Any) -> dict[str, Any]:
    return {
        "type": kind, "boot": "b", "sequence": sequence, "time": iso_time(T + at + 0.1), "camera": "yard", "track": 7,
        "person": person, "frame": {"time": iso_time(T + at)}, "similarity": 0.62, "threshold": 0.41, "margin": 0.2,
        "log_likelihood_ratio": 8.0, "runner_up": "Bo", "views": 5, "quality": 0.6, "false_names_per_day": 0.0009,
        **more,
    }  # fmt: skip


def sighting(sequence: int, at: float, change: str, **more: Any) -> dict[str, Any]:
    evidence = {
        "similarity": 0.6, "llr": 7.5, "threshold": 0.4, "runner_up": person_id("Bo"), "margin": 0.1, "views": 5,
        "quality": 0.5, "false_names_per_day": 0.01,
    }  # fmt: skip
    return {
        "type": "sighting", "boot": "b", "sequence": sequence, "time": iso_time(T + at), "camera": "yard",
        "sighting": "s-1", "change": change, "reason": "", "person": person_id("Ada"), "stranger": None,
        "started": iso_time(T),
        "last_seen": iso_time(T + at), "duration_s": at, "zones": ["gate"], "evidence": evidence, "track": 7,
        "cameras": [{"camera": "yard", "from": iso_time(T), "to": iso_time(T + at)}], **more,
    }  # fmt: skip


def table(rows: Sightings) -> str:
    return as_csv((row, "") for row in rows.chosen())


def names(person: str) -> str:
    return {person_id("Ada"): "Ada", person_id("Bo"): "Bo"}.get(person, person)


# --- sightings --------------------------------------------------------------------------------------------------------


def test_no_event_no_row() -> None:
    rows = Sightings(names)
    assert rows.add({"type": "camera", "sequence": 1, "camera": "yard"}) is None
    assert list(rows.chosen()) == []
    assert table(rows).count("\r\n") == 1  # the header


def test_events_of_one_track_and_person_are_one_row_in_words() -> None:
    rows = Sightings(names)
    for number in range(14):
        row = rows.add(match(number + 1, 3 * number))
    assert row is not None
    assert len(rows.rows) == 1
    words = in_words(row)
    assert words == "seen 14 times in 39 s at yard, surely Ada: one false name in 3 years as sure as this"
    assert row.shown()["evidence"]["runner_up"] == "Bo"


def test_possible_first_and_sure_later_is_one_row() -> None:
    rows = Sightings(names)
    rows.add(match(1, 0, kind="candidate"))
    assert "possibly Ada" in in_words(next(rows.chosen()))
    rows.add(match(2, 5))
    (row,) = rows.chosen()
    assert (row.kind, row.started) == ("match", iso_time(T))


def test_a_row_keeps_its_address_when_the_page_is_restarted() -> None:
    one, two = Sightings(names), Sightings(names)
    for rows in (one, two):
        rows.add(match(1, 0))
    assert list(one.rows) == list(two.rows)


def test_sightings_take_over_from_the_matches_of_their_track() -> None:
    rows = Sightings(names)
    rows.add(match(1, 0))
    rows.add(sighting(2, 1, "started"))
    rows.add(match(3, 2))
    rows.add(sighting(4, 30, "ended"))
    (row,) = rows.chosen()
    assert (row.kind, row.name, row.change, row.zones) == ("sighting", "Ada", "ended", ["gate"])
    assert row.evidence["log_likelihood_ratio"] == 7.5
    assert row.evidence["runner_up"] == "Bo"
    assert row.sequence == 4


def test_strangers_and_corrections_are_rows_too() -> None:
    rows = Sightings(names)
    rows.add(sighting(1, 1, "started", person=None, stranger="blue heron", evidence=None))
    (row,) = rows.chosen(person="blue heron")
    assert "nobody enrolled" in in_words(row)
    rows.add(sighting(2, 9, "corrected", person=person_id("Bo")))
    (row,) = rows.chosen()
    assert (row.name, row.change) == ("Bo", "corrected")


def test_filters_fit_and_order_is_newest_first() -> None:
    rows = Sightings(names)
    rows.add(match(1, 0, "Ada"))
    rows.add(match(2, 100, "Bo", track=8, camera="hall"))
    assert [row.name for row in rows.chosen()] == ["Bo", "Ada"]
    assert [row.name for row in rows.chosen(camera="hall")] == ["Bo"]
    assert [row.name for row in rows.chosen(since=iso_time(T + 50))] == ["Bo"]
    assert [row.name for row in rows.chosen(until=iso_time(T + 50))] == ["Ada"]
    assert [row.name for row in rows.chosen(text="HAL")] == ["Bo"]
    assert not list(rows.chosen(kind="sighting"))


def test_a_name_is_no_formula_in_a_spreadsheet() -> None:
    rows = Sightings(names)
    rows.add(match(1, 0, '=HYPERLINK("http://evil")'))
    cells = list(csv.DictReader(io.StringIO(table(rows))))
    assert cells[0]["name"].startswith("'=")
    assert cells[0]["false_names_per_day"] == "0.0009"


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.0, "no false name"),
        (1e-6, "years"),
        (0.005, "7 months"),
        (0.02, "50 days"),
        (1.0, "1 false name a day"),
        (37, "37 false"),
    ],
)
def test_odds_are_said_in_words(rate: float, words: str) -> None:
    assert words in odds_in_words(rate)


def test_durations_are_said_as_people_do() -> None:
    assert [span(s) for s in (0.0, 40, 120, 7200)] == ["1 s", "40 s", "2 min", "2.0 h"]
    assert in_words(Row("x", "match", "", iso_time(T), iso_time(T))).endswith("nobody enrolled")


def test_old_rows_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personsearch.runtime.page.sightings.MOST_ROWS", 50)
    rows = Sightings(names)
    for number in range(200):
        rows.add(sighting(number, number, "started", sighting=f"s-{number}", track=number))
    assert [row.id for row in rows.chosen()][:2] == ["s-199", "s-198"]
    assert len(rows.rows) == 50


# --- cams.yaml --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cams(tmp_path: Path) -> Cams:
    text = shipped("configs/cams.yaml").read_text()
    (tmp_path / "cams.yaml").write_text(text)
    save_gallery(some_gallery(), tmp_path / "people.gallery")
    return Cams(tmp_path / "cams.yaml", tmp_path / "people.gallery", MANIFEST)


def change(cams: Cams, **what: Any) -> Change:
    return Change.model_validate({"version": cams.shown()["version"], **what})


def test_a_zone_is_written_and_every_comment_stays(cams: Cams) -> None:
    before = cams.text()
    zones = {"ignore": [[0.1, 0.2, 0.3, 0.25]], "region": [0, 0.2, 1, 0.8]}
    told = cams.change(change(cams, cameras={"door": zones}, match={"candidates": True}), "ada")
    after = cams.text()
    assert "door: ignore (1)" in told
    assert [line for line in before.splitlines() if line.lstrip().startswith("#")] == [
        line for line in after.splitlines() if line.lstrip().startswith("#")
    ]
    changed = set(after.splitlines()) ^ set(before.splitlines())
    assert len(changed) == 5, changed  # two values and a new key
    settings = load_settings(cams.path, StreamSettings)
    assert settings.cameras[0].ignore == ((0.1, 0.2, 0.3, 0.25),)
    assert settings.cameras[0].region == (0, 0.2, 1, 0.8)
    assert settings.match.candidates


def test_polygons_and_lines_are_written_and_what_stays_keeps_its_comments(cams: Cams) -> None:
    text = "cameras:\n- name: door\n  url: synthetic://street\n  zones:\n  - name: till   # the old one\n"
    text += "    polygon: [[0, 0], [0.5, 0], [0, 0.5]]\n"
    cams.path.write_text(text)
    till = {"name": "till", "polygon": [[0, 0], [0.5, 0], [0, 0.5]], "kind": "watch"}
    same = cams.change(change(cams, cameras={"door": {"zones": [till]}}), "ada")
    assert same == ""  # a default that is spelt out is no change
    gate = {"name": "gate", "points": [[0.1, 0.6], [0.9, 0.6]], "tell": "in"}
    yard = {"name": "yard", "polygon": [[0.5, 0.5], [1, 0.5], [1, 1]], "kind": "entering"}
    assert cams.change(change(cams, cameras={"door": {"zones": [till, yard], "lines": [gate]}}), "ada")
    assert "# the old one" in cams.text()
    door = load_settings(cams.path, StreamSettings).cameras[0]
    assert [(zone.name, zone.kind) for zone in door.zones] == [("till", "watch"), ("yard", "entering")]
    assert door.lines[0].tell == "in"
    assert cams.shown()["cameras"][0]["zones"][1]["polygon"] == [[0.5, 0.5], [1, 0.5], [1, 1]]
    crossed = {"name": "knot", "polygon": [[0, 0], [1, 1], [1, 0], [0, 1]]}
    with pytest.raises(ValidationError, match="cross"):
        change(cams, cameras={"door": {"zones": [crossed]}})


def test_how_long_things_are_kept_is_changed_and_nothing_else(cams: Cams) -> None:
    told = cams.change(change(cams, keeping={"journal": {"keep_hours": 24}, "audit": {"keep_days": 200}}), "ada")
    assert told == "audit.keep_days 200, journal.keep_hours 24"
    settings = load_settings(cams.path, StreamSettings)
    assert (settings.journal.keep_hours, settings.audit.keep_days) == (24, 200)
    assert cams.shown()["keeping"]["journal"]["keep_hours"] == 24
    for section, key in (("journal", "path"), ("page", "insecure"), ("publish", "endpoint")):
        with pytest.raises(ValidationError, match="cannot be changed here"):
            change(cams, keeping={section: {key: 1}})
    with pytest.raises(ConfigError, match="keep_hours"):
        cams.change(change(cams, keeping={"journal": {"keep_hours": -1}}), "ada")


def test_undo_gives_the_file_back_byte_for_byte(cams: Cams) -> None:
    before = cams.path.read_bytes()
    cams.change(change(cams, match={"min_margin": 0.1}), "ada")
    cams.change(change(cams, match={"repeat_s": 2.5}), "bo")
    assert [what.split(" (")[0] for what in cams.shown()["undo"]] == ["min_margin 0.1", "repeat_s 2.5"]
    again = Cams(cams.path, cams.gallery, MANIFEST)  # after a restart
    again.undo()
    again.undo()
    assert cams.path.read_bytes() == before
    with pytest.raises(UserError, match="nothing to take back"):
        again.undo()


def test_a_change_that_would_not_be_valid_changes_nothing(cams: Cams) -> None:
    before = cams.path.read_bytes()
    for what in (
        {"cameras": {"door": {"ignore": [[0.9, 0, 0.5, 0.1]]}}},
        {"cameras": {"door": {"max_fps": -1}}},
        {"cameras": {"nowhere": {"max_fps": 1}}},
        {"match": {"false_names_per_day": 1e-9}},
        {"match": {"min_margin": 7}},
    ):
        with pytest.raises(ConfigError, match=r"cams\.yaml|nowhere") as told:
            cams.change(change(cams, **what), "ada")
        assert "trial" not in str(told.value)
    assert cams.path.read_bytes() == before
    assert sorted(p.name for p in cams.path.parent.iterdir() if "trial" in p.name) == []


def test_two_operators_do_not_overwrite_each_other(cams: Cams) -> None:
    one, two = change(cams, match={"repeat_s": 2}), change(cams, match={"repeat_s": 3})
    cams.change(one, "ada")
    with pytest.raises(UserError, match="meanwhile"):
        cams.change(two, "bo")
    cams.path.write_text(cams.text() + "# by hand\n")
    with pytest.raises(UserError, match="by hand"):
        cams.undo()
    assert cams.change(change(cams, match={"repeat_s": 2}), "ada") == ""  # as it is


def test_other_styles_of_yaml_stay_as_they_are() -> None:
    texts = (
        "cameras:\n- name: a  # first\n  url: '0'\n\n# the end\nx-more: &m [1, 2]\n",
        "cameras: [{name: a, url: '0'}]\n",
        "cameras:\n    - {name: a, url: '0', ignore: [[0, 0, 0.5, 0.5]]}  # flow\nmatch:   # empty\n",
    )
    for text in texts:
        wanted = Change.model_validate(
            {"version": "", "cameras": {"a": {"ignore": [[0, 0, 1, 0.5]]}}, "match": {"repeat_s": 2}}
        )
        new, told = edited(text, wanted)
        assert "ignore" in told
        for word in ("# first", "# the end", "&m [1, 2]", "# flow", "# empty"):
            assert (word in text) == (word in new)
        assert edited(new, wanted) == (new, "")


def test_secrets_of_urls_are_not_shown(cams: Cams) -> None:
    streams = "url: 'rtsp://ada:geheim7@10.0.0.9/x', detail_url: 'rtsp://ada:geheim7@10.0.0.9/y'"
    cams.path.write_text(f"cameras: [{{name: door, {streams}}}]\ngallery: people.gallery\n")
    assert "geheim7" not in str(cams.shown())
    assert cams.shown()["cameras"][0]["detail_url"] == "rtsp://10.0.0.9/y"


# --- reviews ----------------------------------------------------------------------------------------------------------


def answers_of(slope: float, count: int) -> list[Answer]:
    """Cases around a likelihood ratio of 2, as if the real one had this slope."""
    rng, given = np.random.default_rng(5), []
    for number in range(count):
        ratio = float(rng.normal(2.0, 2.0))
        right = rng.uniform() < 1 / (1 + np.exp(-slope * (ratio - 2.0)))
        given.append(Answer(
            row=f"s-{number}", kind="candidate", answer="yes" if right else "no", said="p-0", similarity=0.3,
            log_likelihood_ratio=ratio, views=3, time=T + number,
        ))  # fmt: skip
    return given


def test_no_answer_no_slope() -> None:
    told = effect([], odds_of(MANIFEST))
    assert (told["genuine"], told["impostor"], told["slope"], told["after"]) == (0, 0, None, [])
    assert len(told["before"]) > 10
    one_kind = [Answer(**(a.model_dump() | {"answer": "yes"})) for a in answers_of(1.0, 30)]
    assert effect(one_kind, odds_of(MANIFEST))["slope"] is None


@pytest.mark.parametrize("slope", [0.4, 1.0, 1.6])
def test_the_slope_of_the_likelihood_is_found_in_the_answers(slope: float) -> None:
    told = effect(answers_of(slope, 400), odds_of(MANIFEST))
    assert abs(told["slope"] - slope) < 3 * told["error"] < 0.6
    before, after = np.array(told["before"])[:, 1], np.array(told["after"])[:, 1]
    assert np.isclose((after[-1] - after[0]) / (before[-1] - before[0]), told["slope"], atol=0.01)


def test_a_few_answers_do_not_overturn_the_calibration() -> None:
    wrong = [Answer(**(a.model_dump() | {"answer": "no" if a.answer == "yes" else "yes"})) for a in answers_of(1.0, 12)]
    assert effect(wrong, odds_of(MANIFEST))["slope"] > 0


def test_answers_are_kept_counted_and_forgotten(tmp_path: Path) -> None:
    book = Reviewing(tmp_path / "people.gallery")
    assert book.counts() == {"yes": 0, "no": 0, "name": 0}
    for answer in answers_of(1.0, 6):
        book.add(Answer(**(answer.model_dump() | {"said": "p-1" if answer.row == "s-2" else "p-2"})))
    assert sum(book.counts().values()) == 6
    assert oct((tmp_path / "people.gallery.reviews").stat().st_mode)[-3:] == "600"
    assert forget_reviews(book.path, "p-1") == 1
    assert "p-1" not in book.path.read_text()
    assert "s-2" not in book.all()
    book.path.write_text("{")
    with pytest.raises(GalleryError, match="no file of answers"):
        book.all()


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(tmp_path: Path) -> People:
    begin_gallery(tmp_path / "people.gallery", MANIFEST.model_hash, MANIFEST.dimensions)
    return People(tmp_path / "people.gallery", MANIFEST)


def view(seed: int, quality: float = 0.5, source: str = "yard") -> EnrolledView:
    row = np.random.default_rng(seed).normal(size=MANIFEST.dimensions).astype(np.float32)
    return EnrolledView(row / np.linalg.norm(row), source, quality)


def test_people_come_are_renamed_and_go(people: People) -> None:
    assert people.shown() == {"people": [], "undo": None}
    assert people.doubts("Ada", [view(1)], []) == []
    people.add("  Ada ", [view(1), view(2)])
    people.add("Bo", [view(3)])
    assert [(p["name"], len(p["views"])) for p in people.shown()["people"]] == [("Ada", 2), ("Bo", 1)]
    ada = people.gallery().id_of("Ada")
    assert people.name_of(ada) == "Ada"
    assert people.describe("Ada", "Ada Lovelace", {}).name == "Ada Lovelace"
    assert people.name_of(ada) == "Ada Lovelace"  # the id stays
    with pytest.raises(GalleryError, match="enrolled already"):
        people.describe("Bo", "Ada Lovelace", {})
    with pytest.raises(GalleryError, match="not enrolled"):
        people.remove("Ada")
    assert people.remove("Bo").name == "Bo"
    assert people.shown()["undo"]["kind"] == "removed"
    people.undo()
    assert len(people.gallery().views_of("Bo")) == 1


def test_details_merges_and_their_undoing(people: People) -> None:
    people.add("Ada", [view(1)])
    people.add("A. Lovelace", [view(2), view(3)])
    people.describe("Ada", None, {"labels": ("staff",), "note": "second floor", "expires": "2020-01-01"})
    (_, ada) = people.shown()["people"]
    assert (ada["labels"], ada["note"], ada["expired"]) == (["staff"], "second floor", True)
    into, other = people.merge("Ada", "A. Lovelace")
    (ada,) = people.shown()["people"]
    assert [m["name"] for m in ada["merged"]] == ["A. Lovelace"]
    assert people.name_of(other) == "Ada"  # what was said under the old id
    assert people.unmerge("A. Lovelace") == [into, other]
    assert people.undo().kind == "unmerged"
    assert people.undo().kind == "merged"
    assert [len(p["views"]) for p in people.shown()["people"]] == [2, 1]


def test_doubts_are_said_and_poor_views_refused(people: People) -> None:
    people.add("Ada", [view(1)])
    doubts = people.doubts("Bo", [view(1)], ["blurred"])
    assert any("looks like Ada" in doubt for doubt in doubts)
    assert "blurred" in doubts
    assert any("nearly the same" in doubt for doubt in people.doubts("Ada", [view(1)], []))
    with pytest.raises(UserError, match="too poor"):
        people.doubts("Bo", [view(4, quality=0.001)], [])
    with pytest.raises(UserError, match="at least one"):
        people.doubts("Bo", [], [])
    with pytest.raises(GalleryError):
        people.doubts("\u202e", [view(4)], [])


def test_taking_back_removes_just_those_views(people: People) -> None:
    people.add("Ada", [view(1)])
    added = people.add("Ada", [view(2), view(3)])
    people.describe("Ada", "Ada Lovelace", {})  # meanwhile
    refused = people.add("Ada Lovelace", [view(4)], negative=True)
    assert people.take_back(added.id, added.marks) == 2
    assert people.take_back(added.id, added.marks) == 0
    assert people.take_back(refused.id, refused.marks) == 1
    gallery = load_gallery(people.path, MANIFEST.model_hash, MANIFEST.dimensions)
    assert gallery.names == ["Ada Lovelace"]
    assert np.allclose(gallery.embeddings[0], view(1).embedding)


def test_a_tracks_best_views_are_taken_in_their_order() -> None:
    qualities = [0.1, 0.9, 0.2, 0.8, 0.7, 0.6, 0.5]
    rows = np.eye(7, dtype=np.float32)
    chosen = best_views(rows, qualities, "yard")
    assert [v.quality for v in chosen] == [0.9, 0.8, 0.7, 0.6, 0.5]


def test_changes_are_edited_deterministically() -> None:
    """The order of keys in a request does not change the file."""
    parts = {"false_names_per_day": 5.0, "min_margin": 0.1, "repeat_s": 2.0}
    results = set()
    for seed in range(5):
        keys = list(parts)
        random.Random(seed).shuffle(keys)
        wanted = Change.model_validate({"version": "", "match": {key: parts[key] for key in keys}})
        results.add(edited("cameras: []\nmatch:\n  repeat_s: 1\n", copy.deepcopy(wanted)))
    assert len(results) == 1
