"""Compiling for OpenVINO's CPU plugin, once: the next process takes what the first one compiled.

Compiling is most of a start. OpenVINO's own cache (`CACHE_DIR`) does not help: it numbers the tensors at which a graph
is cut anew in each process and takes these numbers into its key, so it finds hardly anything again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.core.engines import canvas_part
from personsearch.core.engines.compiled_store import CompiledStore, cache_folder
from personsearch.core.openvino_core import openvino_core, openvino_module

if TYPE_CHECKING:
    import openvino

log = logging.getLogger("personsearch.engines")
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS")  # what oneDNN may use of the processor


class Compiler:
    """Compiles parts of one graph. `keep`: takes them from the user's cache where it has them."""

    def __init__(self, graph: bytes, cutting: str, keep: bool) -> None:
        """graph    content of the ONNX file
        cutting  the file of the code that cuts parts out of it"""
        self._store = CompiledStore(folder / "openvino" if keep and (folder := cache_folder()) else None)
        self._graph = [hashlib.sha256(graph).hexdigest(), _code(cutting), *_here()]

    def compile(
        self, part: Sequence[object], cut: Callable[[], openvino.Model], options: dict[str, Any]
    ) -> openvino.CompiledModel:
        """part  says which part of the graph it is and how it is changed, in words and numbers
        cut   makes it; called only if it has to be compiled

        Raises RuntimeError where OpenVINO cannot compile it."""
        key = hashlib.sha256(json.dumps([self._graph, part, options], sort_keys=True).encode()).hexdigest()
        blob = self._store.load(key)
        if blob is not None:
            try:
                return openvino_core().import_model(blob, "CPU", options)
            except RuntimeError as error:
                self._store.remove(key, f"OpenVINO does not take it ({str(error).strip().splitlines()[-1][:200]})")
        compiled = openvino_core().compile_model(cut(), "CPU", options)
        if self._store.folder is not None:
            try:
                self._store.save(key, compiled.export_model().getvalue())
            except RuntimeError as error:
                log.info("OpenVINO does not give out what it compiled: %s", str(error).strip().splitlines()[-1][:200])
        return compiled


@cache
def _here() -> tuple[str, ...]:
    """The library and the processor: what another one compiled may not run, or slower."""
    core = openvino_core()
    processor = [str(core.get_property("CPU", name)) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    limits = [os.environ.get(name, "") for name in LIMITS]
    return (openvino_module().get_version(), *processor, _instructions(), *limits)


def _instructions() -> str:
    """The processor's instruction sets as Linux names them; empty where it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""


@cache
def _code(cutting: str) -> str:
    """The code that makes the parts: with another version of it they may be others under the same names."""
    content = b"".join(Path(file).read_bytes() for file in (cutting, canvas_part.__file__))
    return hashlib.sha256(content).hexdigest()
