"""Printing never fails, whatever the terminal's encoding, and nothing that is printed acts on the terminal."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from personsearch.core.bundle import read_manifest
from personsearch.core.text import acts, json_line, printable
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import load_gallery, save_gallery
from personsearch.runtime.subscribe import describe

NAMES = ["Zoë", "Łukasz", "علی‌رضا", "ශ්‍රී", "👨‍👩‍👧"]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, C_LOCALE, {"PYTHONUTF8": "1"}]


ONE_AFTER_ANOTHER = """
import sys
from personsearch.runtime.enroll import main
words = sys.argv[1:]
while words:
    end = words.index("then")
    sys.argv, words = ["enroll.py", *words[:end]], words[end + 1 :]
    print(f"ended with {main()}", flush=True)
"""


def commands(environment: dict[str, str], *each: list[object]) -> subprocess.CompletedProcess[bytes]:
    """personsearch-enroll with each of these arguments, in one process of that encoding."""
    everything = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHON"))} | environment
    words = [os.fsencode(str(word)) for arguments in each for word in (*arguments, "then")]
    return subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, *words], cwd=REPOSITORY, capture_output=True, env=everything,
        check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("environment", ENCODINGS, ids=["latin-1", "ascii", "C locale", "utf-8"])
def test_names_of_people_are_listed_in_every_encoding(environment, shipped_bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(shipped_bundle)
    gallery = Gallery(manifest.model_hash, manifest.dimensions)
    for name in NAMES:
        gallery.add(name, EnrolledView(np.eye(manifest.dimensions)[0]))
    path = tmp_path / "Zoë.gallery"
    save_gallery(gallery, path)
    result = commands(
        environment, ["--gallery", path, "--list"], ["--gallery", path, "--remove", "Łukasz"],
        ["--gallery", path, "--remove", "Ünal"],
    )  # fmt: skip
    listed, removed, unknown = re.split(rb"ended with \d\n", result.stdout)[:3]
    assert re.findall(rb"ended with (\d)\n", result.stdout) == [b"0", b"0", b"2"], result.stderr
    assert len(listed.splitlines()) == len(NAMES)
    if environment.get("PYTHONUTF8") == "1":
        assert {line.split("\t")[0] for line in listed.decode().splitlines()} == set(NAMES)
    assert load_gallery(path, manifest.model_hash, manifest.dimensions).people == sorted(set(NAMES) - {"Łukasz"})
    assert (len(removed.splitlines()), unknown) == (1, b"")
    assert result.stderr.startswith(b"error: ")
    assert len(result.stderr.splitlines()) == 1


@given(st.text())
def test_a_line_of_json_stays_json_on_every_terminal(text: str) -> None:
    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        line = json_line({"person": text}, stream)
        stream.write(line)
        assert json.loads(line) == {"person": text}
        assert "\n" not in line


@given(st.text())
def test_what_is_printable_does_not_act(text: str) -> None:
    shown = printable(text)
    assert not any(map(acts, shown))
    assert len(shown.splitlines()) <= 1
    shown.encode()  # no halves of surrogate pairs


def test_an_event_of_a_stranger_cannot_forge_a_line() -> None:
    event = {
        "type": "match", "time": "now", "camera": "door", "person": "Ada\n12:00 vault: Bo\x1b[2J\u202e", "track": 1,
        "similarity": 0.9, "threshold": 0.5, "frame": {"index": 1}, "bounding_box": {"x": 1, "y": 1, "w": 1, "h": 1},
    }  # fmt: skip
    line = describe(event)
    assert len(line.splitlines()) == 1
    assert "\\x1b[2J\\u202e" in line


def test_joiners_are_spelling_and_turning_marks_are_not() -> None:
    assert printable("علی‌رضا 👨‍👩‍👧 a\u00a0b") == "علی‌رضا 👨‍👩‍👧 a\u00a0b"
    assert printable("a\u202eb\u2066c\u200fd") == "a\\u202eb\\u2066c\\u200fd"
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"
