"""Every fault that the runtime promises to survive, in its short form; `python tests/faults/run.py` is the long one."""

import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "faults"))
from harness import Unavailable
from run import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_the_runtime_survives(fault: Fault) -> None:
    logging.disable(logging.CRITICAL)
    try:
        outcome = fault.reproduce(False)
    except Unavailable as reason:
        pytest.skip(str(reason))
    finally:
        logging.disable(logging.NOTSET)
    assert outcome.passed, f"{outcome.measured} (promised: {fault.promised}) {outcome.figures}"
