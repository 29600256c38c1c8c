"""Which engine runs a bundle here. Nothing falls back silently: what cannot run raises EngineError."""

from __future__ import annotations

import logging
from pathlib import Path

from personsearch.core.bundle import graph_file, read_manifest
from personsearch.core.engines.interface import Engine
from personsearch.core.engines.onnx_opset import OPSET, load_problem, onnx_opset
from personsearch.core.errors import EngineError

# Backends with their precisions. The first one is what the backend's bare name means.
BACKENDS: dict[str, tuple[str, ...]] = {
    "openvino": ("auto", "fp32", "bf16", "int8"),
    "onnxruntime": ("fp32", "fp16", "int8"),
    "onnxruntime-cuda": ("fp32", "fp16", "int8"),
    "onnxruntime-tensorrt": ("fp32", "fp16", "int8"),
    "onnxruntime-rtx": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "int8"),
}
ENGINES = (
    "auto",
    *(name for backend, kinds in BACKENDS.items() for name in (backend, *(f"{backend}-{p}" for p in kinds[1:]))),
)
log = logging.getLogger("personsearch.engines")


def split_choice(choice: str) -> tuple[str, str]:
    """`onnxruntime-cuda-fp16` -> `onnxruntime-cuda`, `fp16`; a bare backend has its first precision."""
    backend = max((b for b in BACKENDS if choice == b or choice.startswith(f"{b}-")), key=len)
    return backend, choice[len(backend) + 1 :] or BACKENDS[backend][0]


def load_engine(folder: str | Path, choice: str = "auto", threads: int = 0, keep: bool = True) -> Engine:
    """The engine of that name, or for `auto` the fastest that works here; the reason is logged.

    keep  keep what is compiled for the next start (`PERSONSEARCH_CACHE`); False for a bundle that is only tried

    Raises EngineError where it cannot run: nothing falls back silently.
    """
    folder = Path(folder)
    if choice == "auto":
        return _choose(folder, threads, keep)
    if choice not in ENGINES:
        raise EngineError(f"unknown engine '{choice}'; expected one of {', '.join(ENGINES)}")
    backend, precision = split_choice(choice)
    if precision != "auto" and not (folder / graph_file(precision)).is_file():
        raise EngineError(
            f"{folder}: has no {graph_file(precision)}; export the checkpoint with `--precision {precision}`"
        )
    return _load(folder, backend, precision, threads, keep)


def preference(folder: Path) -> tuple[tuple[str, str], ...]:
    """Backends and precisions in the order in which `auto` tries them: a TensorRT engine built for this GPU, CUDA,
    OpenVINO, ONNX Runtime on the CPU."""
    half = "fp16" if (folder / graph_file("fp16")).is_file() else "fp32"
    return ("tensorrt", half), ("onnxruntime-cuda", half), ("openvino", "auto"), ("onnxruntime", "fp32")


def _choose(folder: Path, threads: int, keep: bool) -> Engine:
    tried = []
    for backend, precision in preference(folder):
        try:
            engine = _load(folder, backend, precision, threads, keep)
        except EngineError as error:
            tried.append(f"{backend}: {error}")
            continue
        log.info("engine %s: the first that works here%s", engine.name, "".join(f"; not {t}" for t in tried))
        return engine
    raise EngineError(
        f"no inference engine can run this bundle ({'; '.join(tried)}); install personsearch[cpu] or personsearch[gpu]"
    )


def _load(folder: Path, backend: str, precision: str, threads: int, keep: bool) -> Engine:
    if precision == "auto" and "openvino-cpu-bf16" in read_manifest(folder, verify=False).avoid:
        precision = "fp32"
    graph = folder / graph_file("fp32" if precision == "auto" else precision)
    if onnx_opset(graph) > OPSET:  # before a library sees it: OpenVINO crashed on such a file in a process with PyTorch
        raise EngineError(load_problem(graph))
    try:
        if backend == "openvino":
            from personsearch.core.engines.openvino import OpenVINOEngine

            return OpenVINOEngine(folder, precision, threads, keep)
        if backend == "tensorrt":
            from personsearch.core.engines.tensorrt import TensorRTEngine

            return TensorRTEngine(folder, precision)
        from personsearch.core.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, backend.partition("-")[2] or "cpu", precision, threads)
    except ImportError as error:
        raise EngineError(f"{error.name} is not installed; install personsearch[cpu] or personsearch[gpu]") from None
