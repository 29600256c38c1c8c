"""OpenVINO's `Core`, one for the whole process, and what it says of the processor."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from personsearch.core.processor import bf16_is_hidden

if TYPE_CHECKING:
    import openvino


@cache
def openvino_core() -> openvino.Core:
    """The one `Core`, made by the first call and kept to the end of the process. Raises ImportError without OpenVINO.

    Its CPU plugin gives the calling thread another stack for signals and takes it away when the last user of a `Core`
    is gone. With two whose lives overlap, the second puts back the stack of the first, which is unmapped by then: the
    next signal with a handler, such as SIGTERM or SIGCHLD, ends the process (OpenVINO 2026.4, signal 11).
    """
    import openvino

    return openvino.Core()


def computes_bf16() -> bool:
    """Has this processor instructions for bf16? OpenVINO runs a bf16 engine in float32 where it has none."""
    try:
        announced = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return False
    return announced and not bf16_is_hidden()
