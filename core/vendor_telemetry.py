"""What the libraries would tell their makers, switched off: a program that watches people calls nobody by itself.

Once imported, ONNX Runtime (1.32: events to Microsoft), OpenVINO (2026.4: an event to Google Analytics), Ray and MLflow
report their use. All but OpenVINO read a variable, which a user who wants it may set otherwise.
"""

from __future__ import annotations

import os
import sys

VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}


def switch_off() -> None:
    """For this process and those that it starts; before the libraries are imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO then takes its own stub
