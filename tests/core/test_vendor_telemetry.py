"""The libraries report nothing to their makers."""

import os
import subprocess
import sys
from pathlib import Path

from personsearch.core.vendor_telemetry import VARIABLES

IMPORTS = """
import personsearch.core, sys
import onnxruntime, openvino
assert openvino.convert_model
sys.exit(sys.modules["openvino_telemetry"] is not None)
"""


def test_engines_that_are_imported_give_this_machine_no_number(tmp_path: Path) -> None:
    """Each would keep an id of the machine in the home folder, and send it along."""
    environment = {k: v for k, v in os.environ.items() if k not in {*VARIABLES, "CI", "XDG_CACHE_HOME"}}
    command = [sys.executable, "-c", IMPORTS]
    subprocess.run(command, env={**environment, "HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*"))
