"""One `Core` of OpenVINO in a process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

pytest.importorskip("openvino")

EXCHANGED = """
import os, signal, sys
from personsearch.core.engines.choice import load_engine
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
first = load_engine(sys.argv[1], "openvino")
second = load_engine(sys.argv[1], "openvino")
del first
del second
os.kill(os.getpid(), signal.SIGTERM)
print("alive")
"""


def test_a_signal_is_handled_after_one_model_took_the_place_of_another(tiny_bundle: Path) -> None:
    command = [sys.executable, "-c", EXCHANGED, str(tiny_bundle)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.split()) == (0, ["handled", "alive"]), result.stderr


def test_nothing_makes_another_core() -> None:
    """The fault is OpenVINO's: two cores whose lives overlap, then a signal."""
    made = re.compile(r"openvino\w*(\(\))?[.]Core[(]")
    makers = [
        str(path.relative_to(REPOSITORY))
        for room in ("archive", "centre", "core", "export", "runtime", "tests", "train")
        for path in sorted((REPOSITORY / room).rglob("*.py"))
        if made.search(path.read_text())
    ]
    assert makers == ["core/openvino_core.py"]
