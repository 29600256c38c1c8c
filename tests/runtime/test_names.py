"""Names of people: one spelling for each, all scripts, and none that acts on a terminal."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personsearch.core.errors import GalleryError
from personsearch.core.text import acts
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import FIRST_FORMAT, load_gallery
from personsearch.runtime.decisions.names import MAX_NAME, person_name

MODEL, D = "a" * 16, 4
ONE = np.eye(D, dtype=np.float32)[0]


@pytest.mark.parametrize(
    "name",
    [
        "Ada", "O'Brien-Łukasiewicz", "李小龍", "علی‌رضا", "ශ්‍රී ලාල්", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "Ada\u00a0Lovelace", "王\u3000芳", "é", "#7", "x" * MAX_NAME,
    ],
)  # fmt: skip
def test_names_of_all_scripts_are_kept_as_they_are(name: str) -> None:
    assert person_name(name) == name


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        (" Ada ", "Ada"), ("\u00a0Ada\u3000\n", "Ada"), ("\ufeffAda\u200e", "Ada"), ("Zoe\u0308", "Zoë"),
        (" \u200f Zoe\u0308\u200b ", "Zoë"), ("가", "가"),
    ],
)  # fmt: skip
def test_one_name_has_one_spelling(given_name: str, kept: str) -> None:
    assert person_name(given_name) == kept


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "visible"), (" \u00a0", "visible"), ("\u200d", "visible"), ("x" * (MAX_NAME + 1), "1 to 200"),
        ("a\nb", "U\\+000A"), ("a\x1b[2Jb", "U\\+001B"), ("a\u2028b", "LINE SEPARATOR"), ("a\x85b", "U\\+0085"),
        ("a\u202eb", "RIGHT-TO-LEFT OVERRIDE"), ("a\u2066b", "ISOLATE"), ("a\u200eb", "LEFT-TO-RIGHT MARK"),
        ("a\u00adb", "SOFT HYPHEN"), ("a\ud800b", "not valid text"), ("a\x00b", "U\\+0000"),
    ],
)  # fmt: skip
def test_what_could_forge_a_line_is_refused(name: str, word: str) -> None:
    with pytest.raises(GalleryError, match=word) as caught:
        person_name(name)
    assert not any(map(acts, str(caught.value)))


@given(st.text())
def test_every_name_is_refused_or_settles_at_once(name: str) -> None:
    try:
        kept = person_name(name)
    except GalleryError:
        return
    assert person_name(kept) == kept == unicodedata.normalize("NFC", kept) == kept.strip()
    assert person_name(f" {unicodedata.normalize('NFD', kept)}\u00a0") == kept
    assert not any(map(acts, kept))
    kept.encode()


@given(st.lists(st.text(min_size=1), max_size=8))
def test_whoever_is_enrolled_can_be_removed_by_the_same_name(names: list[str]) -> None:
    gallery = Gallery(MODEL, D)
    enrolled = []
    for name in names:
        try:
            gallery.add(name, EnrolledView(ONE))
        except GalleryError:
            continue
        enrolled.append(name)
    for name in enrolled:
        gallery.remove(f" {unicodedata.normalize('NFD', name)} ")
    assert gallery.people == []


def test_an_older_gallery_with_two_spellings_of_a_name_has_one_person(tmp_path: Path) -> None:
    with open(tmp_path / "g", "wb") as file:
        np.savez(
            file, format=np.array(FIRST_FORMAT), model_hash=np.array(MODEL),
            names=np.array(["Zoë", "Zoe\u0308", "Bo "]), embeddings=np.eye(D, dtype=np.float32)[:3],
        )  # fmt: skip
    gallery = load_gallery(tmp_path / "g", MODEL, D)
    assert gallery.people == ["Bo", "Zoë"]
    assert gallery.remove("Zoe\u0308") == 2


@pytest.mark.parametrize("row", [np.zeros(D), np.full(D, np.nan), np.full(D, 1e20), np.ones(D + 1) / np.sqrt(D + 1)])
def test_an_embedding_that_no_model_gives_is_not_enrolled(row: np.ndarray) -> None:
    gallery = Gallery(MODEL, D)
    with pytest.raises(GalleryError, match="nothing enrolled"):
        gallery.add("Ada", EnrolledView(row))
    assert gallery.people == []


def test_an_embedding_of_another_length_cannot_match_better_than_the_same_one() -> None:
    gallery = Gallery(MODEL, D)
    gallery.add("Ada", EnrolledView(40 * ONE))
    assert gallery.embeddings.tolist() == [ONE.tolist()]
