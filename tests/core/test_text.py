"""Printing never fails, whatever the terminal's encoding, and nothing that is printed acts on the terminal."""

import io
import json
import os
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


def command(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[bytes]:
    everything = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHON"))} | environment
    words = [sys.executable, *(os.fsencode(str(a)) for a in arguments)]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, env=everything, check=False, timeout=120)


@pytest.mark.parametrize("environment", ENCODINGS, ids=["latin-1", "ascii", "C locale", "utf-8"])
def test_names_of_people_are_listed_in_every_encoding(environment, shipped_bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(shipped_bundle)
    gallery = Gallery(manifest.model_hash, manifest.dimensions)
    for name in NAMES:
        gallery.add(name, EnrolledView(np.eye(manifest.dimensions)[0]))
    save_gallery(gallery, tmp_path / "Zoë.gallery")
    listed = command(environment, "runtime/enroll.py", "--gallery", tmp_path / "Zoë.gallery", "--list")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == len(NAMES)
    if "PYTHONUTF8" in environment and environment["PYTHONUTF8"] == "1":
        assert {line.split("\t")[0] for line in listed.stdout.decode().splitlines()} == set(NAMES)
    removed = command(environment, "runtime/enroll.py", "--gallery", tmp_path / "Zoë.gallery", "--remove", "Łukasz")
    assert removed.returncode == 0, removed.stderr
    left = load_gallery(tmp_path / "Zoë.gallery", manifest.model_hash, manifest.dimensions)
    assert left.people == sorted(set(NAMES) - {"Łukasz"})
    unknown = command(environment, "runtime/enroll.py", "--gallery", tmp_path / "Zoë.gallery", "--remove", "Ünal")
    assert unknown.returncode == 2
    assert b"Traceback" not in unknown.stderr


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
