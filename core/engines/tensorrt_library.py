"""TensorRT 10 or 11, or TensorRT for RTX: loading the library, naming the GPU, and keying engine files.

An engine file runs only on the GPU architecture and with the library version that it was built for, so both are
part of its name, with the hash of the ONNX graph behind it: a stale engine is never loaded by mistake.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personsearch.core.errors import EngineError

RTX_INSTALL = "pip install --no-deps onnxruntime-ep-nv-tensorrt-rtx-cu13 tensorrt-rtx-cu13-bindings"
ENGINE_SUFFIX = ".engine"


@dataclass(frozen=True)
class TensorRT:
    """A loaded library: its Python module, its version, and whether it is the RTX edition."""

    module: Any
    version: str
    rtx: bool

    @property
    def tag(self) -> str:
        return f"{'rtx' if self.rtx else 'trt'}-{self.version}"


class NoTensorRT(EngineError):
    """No TensorRT library can be loaded here: the bundle is complete without an engine."""


def load_tensorrt(edition: str = "auto") -> TensorRT:
    """edition: `tensorrt`, `rtx`, or `auto` = TensorRT on a machine with an NVIDIA GPU, else TensorRT for RTX.

    Raises NoTensorRT, which says how to install it.
    """
    if edition != "rtx":
        try:
            import tensorrt

            # Stub packages for type checkers can be imported too, but have no version.
            version = getattr(tensorrt, "__version__", "")
            if version and (edition == "tensorrt" or has_gpu()):
                return TensorRT(tensorrt, version, rtx=False)
        except (ImportError, OSError, RuntimeError):
            pass
        if edition == "tensorrt":
            raise NoTensorRT("TensorRT is not installed; on a machine with an NVIDIA GPU `pip install tensorrt`")
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


def local_gpu() -> str:
    """`sm89`-like architecture of the first GPU. Raises EngineError without one."""
    if not has_gpu():
        raise EngineError("no NVIDIA GPU with a driver on this machine; choose another engine, for example openvino")
    driver = ctypes.CDLL("libcuda.so.1")
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)  # ..._MINOR
    return f"sm{major.value}{minor.value}"


def engine_name(graph: str, graph_hash: str, tag: str, gpu: str) -> str:
    """`model.fp16.onnx` -> `model.fp16.sm89.rtx-1.7.1.116.<first 16 digits of the graph's sha256>.engine`."""
    return f"{graph.removesuffix('.onnx')}.{gpu.lower()}.{tag}.{graph_hash[:16]}{ENGINE_SUFFIX}"


def find_engine(files: Iterable[str], graph: str, graph_hash: str, tag: str, gpu: str) -> str:
    """The engine of `files` for exactly this graph, library and GPU. Raises EngineError that says what is wrong."""
    wanted = engine_name(graph, graph_hash, tag, gpu)
    stem = re.escape(graph.removesuffix(".onnx"))
    pattern = re.compile(rf"{stem}\.(sm\d+)\.((?:rtx|trt)-[^-]+?)\.([0-9a-f]{{16}})\{ENGINE_SUFFIX}")
    others = [match for name in sorted(files) if (match := pattern.fullmatch(name))]
    if any(match.string == wanted for match in others):
        return wanted
    repair = "build it on this machine with `personsearch-export BUNDLE`"
    if not others:
        raise EngineError(f"the bundle has no TensorRT engine for {graph}; {repair}")
    reasons = []
    for match in others:
        different = []
        if match[1] != gpu.lower():
            different.append(f"is for GPU {match[1]}, this one is {gpu.lower()}")
        if match[2] != tag:
            different.append(f"was built by {match[2]}, installed is {tag}")
        if match[3] != graph_hash[:16]:
            different.append("belongs to another graph")
        reasons.append(f"{match.string} {' and '.join(different)}")
    raise EngineError(f"no engine of the bundle fits: {'; '.join(reasons)}; {repair}")
