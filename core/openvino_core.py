"""OpenVINO's `Core`, one for the whole process, and what it says of the processor."""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from personsearch.core.processor import bf16_is_hidden

if TYPE_CHECKING:
    import openvino


CONVERTER = "openvino.tools.ovc"


@cache
def openvino_module() -> ModuleType:
    """OpenVINO without its converter of models, which nothing here uses: it takes two thirds of the import's time, and
    brings a program that would report to its maker. Raises ImportError without OpenVINO."""
    if "openvino" not in sys.modules and CONVERTER not in sys.modules:
        sys.modules[CONVERTER] = None  # type: ignore[assignment]  # an import of it fails, which OpenVINO expects
        try:
            import openvino
        finally:
            del sys.modules[CONVERTER]
    import openvino

    return openvino


@cache
def openvino_core() -> openvino.Core:
    """The one `Core`, made by the first call and kept to the end of the process. Raises ImportError without OpenVINO.

    Its CPU plugin gives the calling thread another stack for signals and takes it away when the last user of a `Core`
    is gone. With two whose lives overlap, the second puts back the stack of the first, which is unmapped by then: the
    next signal with a handler, such as SIGTERM or SIGCHLD, ends the process (OpenVINO 2026.4, signal 11).
    """
    core: openvino.Core = openvino_module().Core()
    return core


def computes_bf16() -> bool:
    """Has this processor instructions for bf16? OpenVINO runs a bf16 engine in float32 where it has none."""
    try:
        announced = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return False
    return announced and not bf16_is_hidden()
