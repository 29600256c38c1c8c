"""Build TensorRT engines from a bundle's ONNX graph, with TensorRT 10 or 11, or TensorRT for RTX.

TensorRT for RTX builds for a named GPU architecture on a machine without any GPU; TensorRT itself builds for
the GPU that it finds. Networks are strongly typed: the precision is what the graph says.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personsearch.core.errors import EngineError

RTX_INSTALL = "pip install --no-deps onnxruntime-ep-nv-tensorrt-rtx-cu13 tensorrt-rtx-cu13-bindings"
DEFAULT_RTX_TARGET = "SM89"


@dataclass(frozen=True)
class TensorRT:
    """A loaded library: its Python module, its version, and whether it is the RTX edition."""

    module: Any
    version: str
    rtx: bool


class NoTensorRT(EngineError):
    """No TensorRT library can be loaded here: the bundle is complete without an engine."""


def load_tensorrt() -> TensorRT:
    """`tensorrt` on a machine with an NVIDIA GPU, else TensorRT for RTX. Raises NoTensorRT."""
    try:
        import tensorrt

        if has_gpu():
            return TensorRT(tensorrt, tensorrt.__version__, rtx=False)
    except (ImportError, OSError, RuntimeError):
        pass
    package = importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx")
    if package is None or package.origin is None or importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        raise NoTensorRT(
            "no TensorRT here: on a machine with an NVIDIA GPU `pip install tensorrt` and run this command again, "
            f"or build for RTX GPUs anywhere after `{RTX_INSTALL}`"
        )
    try:
        for pattern in ("libcudart.so*", "libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*"):
            for library in sorted(Path(package.origin).parent.glob(pattern)):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        import tensorrt_rtx_bindings as module
    except (ImportError, OSError) as error:
        raise NoTensorRT(f"TensorRT for RTX is installed but cannot be loaded ({error}); try `{RTX_INSTALL}`") from None
    return TensorRT(module, module.__version__, rtx=True)


def has_gpu() -> bool:
    """Is there an NVIDIA driver with at least one device?"""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def engine_name(library: TensorRT, target: str, model_hash: str) -> str:
    """File name that keys an engine by GPU, library and graph: a stale one is never loaded by mistake."""
    edition = "rtx" if library.rtx else "trt"
    return f"model.{target.lower()}.{edition}-{library.version}.{model_hash}.engine"


def local_gpu_name() -> str:
    """`sm90`-like architecture of the first GPU."""
    driver = ctypes.CDLL("libcuda.so.1")
    driver.cuInit(0)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)
    return f"sm{major.value}{minor.value}"


def build_engine(
    library: TensorRT,
    onnx_path: Path,
    target: str = "",
    workspace_mb: int = 2048,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[bytes, str]:
    """The serialised engine and the GPU architecture that it is for.

    target        RTX only: a compute capability such as SM89 (default: the local GPU, or SM89 without one)
    workspace_mb  limit of the builder's scratch memory
    note          receives the library's warnings
    Raises EngineError with the parser's message and the node's name.
    """
    trt = library.module
    logger = _make_logger(trt, note)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_path.read_bytes()):
        problems = [parser.get_error(i) for i in range(parser.num_errors)]
        text = "; ".join(f"node {p.node_name() or p.node()}: {p.desc()}" for p in problems)
        raise EngineError(f"{onnx_path}: TensorRT cannot parse the graph: {text}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    if library.rtx:
        target = target or (local_gpu_name() if has_gpu() else DEFAULT_RTX_TARGET)
        capability = getattr(trt.ComputeCapability, target.upper(), None)
        if capability is None:
            known = ", ".join(name for name in dir(trt.ComputeCapability) if name.startswith("SM"))
            raise EngineError(f"TensorRT for RTX cannot build for {target}; it knows {known}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
    else:
        local = local_gpu_name()
        if target and target.lower() != local:
            raise EngineError(f"TensorRT builds for the GPU it runs on ({local}), not for {target}; run this there")
        target = local
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(f"{onnx_path}: TensorRT could not build the engine: {logger.last_error or 'no reason given'}")
    return bytes(engine), target.lower()


def _make_logger(trt: Any, note: Callable[[str], None]) -> Any:
    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last_error = message
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR, trt.ILogger.WARNING):
                note(message)

    return Logger()
