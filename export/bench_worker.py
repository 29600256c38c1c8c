"""One measurement in one process: `python -m personsearch.export.bench_worker JSON` prints a row as JSON.

{"engine": ..., "bundle": ..., "weights": ..., "batch": n, "seconds": s, "frames": path, "peaks": [kind, ...]}

`peaks` names the peaks of the machine that are known; another engine's is measured in the same process, afterwards.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.bundle import Manifest, read_manifest
from personsearch.core.errors import EngineError, run_main
from personsearch.core.openvino_core import openvino_core

FRAMES = 16
SIDE = 2048  # of the square matrices whose product is the machine's measured peak


def main() -> int:
    return run_main(_main)


def _main() -> int:
    request = json.loads(sys.argv[1])
    row = _engine(request)
    if row["peak_kind"] not in request["peaks"]:
        row["peak_flops"] = _peak(row["peak_kind"], min(2.0, request["seconds"]))
    print(json.dumps(row))
    return 0


def _engine(request: dict[str, Any]) -> dict[str, Any]:
    from personsearch.core.preprocess import Letterbox
    from personsearch.export.parity import sample_frames

    manifest = read_manifest(request["bundle"], verify=False)
    batch, letterbox = request["batch"], Letterbox(manifest.height, manifest.width)
    canvases = [letterbox(frame)[0] for frame in sample_frames(request["frames"], FRAMES)]
    inputs = [
        np.stack([canvases[(begin + i) % len(canvases)] for i in range(batch)]) for begin in range(0, FRAMES, batch)
    ]
    began = time.perf_counter()
    if request["engine"] == "pytorch-eager-fp32":
        name, usual, everything = _torch(request["weights"], manifest)
        peak = "torch-fp32"
    else:
        from personsearch.core.engines.choice import load_engine

        engine = load_engine(request["bundle"], request["engine"], keep=False)
        least = manifest.least_proposal_score(manifest.min_score)
        name = engine.name

        def usual(images: np.ndarray) -> object:
            return engine.infer(images, least)

        def everything(images: np.ndarray) -> object:
            return engine.infer(images)

        peak = _peak_kind(name)
    everything(inputs[0])
    loaded = time.perf_counter() - began
    times = _time(usual, inputs, request["seconds"])
    full = _time(everything, inputs, request["seconds"] / 2)
    return {
        "engine": name, "batch": batch, "frames_per_second": batch / float(np.mean(times)),
        "p50_ms": 1e3 * float(np.percentile(times, 50)), "p95_ms": 1e3 * float(np.percentile(times, 95)),
        "calls": len(times), "all_frames_per_second": batch / float(np.mean(full)),
        "load_and_first_call_s": loaded, "memory_mb": _peak_memory(),
        "peak_kind": peak,
    }  # fmt: skip


def _peak_memory() -> float:
    """Largest resident size of this process in MB; getrusage would count its parent's from before exec."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _time(call: Callable[[Any], object], inputs: list[Any], seconds: float) -> list[float]:
    """Durations of calls in seconds; at least three."""
    call(inputs[0])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        began = time.perf_counter()
        call(inputs[len(times) % len(inputs)])
        times.append(time.perf_counter() - began)
    return times


def _torch(weights: str, manifest: Manifest) -> tuple[str, Callable, Callable]:
    import torch

    from personsearch.train.weights.checkpoint import load_network

    network, _ = load_network(weights, size=(manifest.height, manifest.width), proposals=manifest.detections)

    def search(images: np.ndarray) -> object:
        with torch.inference_mode():
            return network.search(torch.from_numpy(images), manifest.min_score)

    return "pytorch-eager-fp32", search, search


def _peak_kind(engine: str) -> str:
    """openvino-cpu-bf16 -> openvino-bf16; onnxruntime on the CPU computes fp16 in float32."""
    backend, device, precision = (*engine.split("-"), "fp32")[:3]
    if device != "cpu":
        return f"cuda-{precision}"
    return f"{backend}-fp32" if backend == "onnxruntime" and precision == "fp16" else f"{backend}-{precision}"


def _peak(kind: str, seconds: float) -> float | None:
    """Operations a second of a large matrix product; a multiply-add counts as two. None where it cannot be computed."""
    backend, _, precision = kind.partition("-")
    a = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    try:
        call = {"openvino": _openvino_product, "onnxruntime": _ort_product}.get(backend, _torch_product)(precision)
        times = _time(call, [a], seconds)
    except (EngineError, ImportError, RuntimeError):
        return None
    return 2 * SIDE**3 / float(np.median(times))


def _product_graph(precision: str) -> bytes:
    """A x B with B constant; int8 with Q/DQ nodes on both."""
    from onnx import TensorProto, checker, helper, numpy_helper

    rng = np.random.default_rng(1)
    constants, nodes, left, right = [], [], "a", "b"
    if precision == "int8":
        constants = [
            numpy_helper.from_array(rng.integers(-127, 127, (SIDE, SIDE)).astype(np.int8), "q"),
            numpy_helper.from_array(np.array(0.02, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ]  # fmt: skip
        nodes = [
            helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["aq"]),
            helper.make_node("DequantizeLinear", ["aq", "scale", "zero"], ["ad"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["bd"]),
        ]
        left, right = "ad", "bd"
    else:
        constants = [numpy_helper.from_array(rng.standard_normal((SIDE, SIDE), np.float32), "b")]
    nodes.append(helper.make_node("MatMul", [left, right], ["c"]))
    shape = [SIDE, SIDE]
    graph = helper.make_graph(
        nodes, "product", [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, shape)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


def _openvino_product(precision: str) -> Callable[[np.ndarray], object]:
    core = openvino_core()
    hint = {"INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(_product_graph(precision), b""), "CPU", hint).create_infer_request()
    return lambda a: request.infer([a])


def _ort_product(precision: str) -> Callable[[np.ndarray], object]:
    import onnxruntime

    session = onnxruntime.InferenceSession(_product_graph(precision), providers=["CPUExecutionProvider"])
    return lambda a: session.run(None, {"a": a})


def _torch_product(precision: str) -> Callable[[np.ndarray], object]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "int8":
        raise EngineError("no peak is measured for int8 on a GPU")
    matrix = torch.randn(SIDE, SIDE, dtype=torch.float16 if precision == "fp16" else torch.float32, device=device)

    def call(_: np.ndarray) -> object:
        result = matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return call


if __name__ == "__main__":
    sys.exit(main())
