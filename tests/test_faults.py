"""Every fault that the runtime promises to survive, in its short form; `python tests/faults/run.py` is the long one."""

import logging
import sys
from pathlib import Path

import pytest
from conftest import run

sys.path.insert(0, str(Path(__file__).resolve().parent / "faults"))
from harness import Unavailable
from run import FAULTS, Fault

# Rows whose kind has a quicker test as well; `pytest -m slow tests/test_faults.py`, or the long form.
LONG = {
    "file on a busy machine", "no descriptors left for helpers", "output goes away", "ten thousand people",
    "kill -9 while the gallery changes", "forgotten while the stream runs", "operator's page killed",
    "still scene, capture process killed", "webhook's receiver down, box restarted",
    "history: kill -9 while it and a video are written", "engine dies, camera goes away in a visit",
    "password in a camera URL", "malformed input", "bad configuration on reload",
}  # fmt: skip


@pytest.mark.slow
def test_the_runtime_survives_a_soak() -> None:
    """In a process of its own: the memory of this one grows and shrinks with the other tests' libraries."""
    result = run("tests/faults/run.py", "--short", "--only", "soak")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=f.name.replace(" ", "_"), marks=[pytest.mark.slow] if f.name in LONG else [])
        for f in FAULTS
        if f.name != "soak"
    ],
)
def test_the_runtime_survives(fault: Fault) -> None:
    logging.disable(logging.CRITICAL)
    try:
        outcome = fault.reproduce(False)
    except Unavailable as reason:
        pytest.skip(str(reason))
    finally:
        logging.disable(logging.NOTSET)
    assert outcome.passed, f"{outcome.measured} (promised: {fault.promised}) {outcome.figures}"
