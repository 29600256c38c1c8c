"""Every fault that the runtime promises to survive, in its short form; `python tests/faults/run.py` is the long one."""

import logging
import sys
from pathlib import Path

import pytest
from conftest import run

sys.path.insert(0, str(Path(__file__).resolve().parent / "faults"))
from harness import Unavailable
from run import FAULTS, Fault


def test_the_runtime_survives_a_soak() -> None:
    """In a process of its own: the memory of this one grows and shrinks with the other tests' libraries."""
    result = run("tests/faults/run.py", "--short", "--only", "soak")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.name != "soak"], ids=lambda fault: fault.name.replace(" ", "_")
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
