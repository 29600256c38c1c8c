"""A network that finds nobody, for streams of which only cameras, engine process and events are looked at: it is loaded
in a moment and takes no time for a frame, where the shipped one takes seconds and a core."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from personsearch.core.bundle import write_bundle

D = 256  # as wide as the shipped network's embeddings


def network(long: bool = False) -> dict[str, str]:
    """Sections of a configuration that choose it, for `Running` and cams.yaml.

    long  of a fault's long form, whose row tells what a real box does: none, which is the shipped network"""
    return {} if long else {"bundle": str(_bundle()), "engine": "onnxruntime"}


@cache
def _bundle() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="personsearch-nobody-")
    _kept.append(folder)
    return empty_bundle(Path(folder.name))


_kept: list[tempfile.TemporaryDirectory[str]] = []  # until this process ends


def empty_bundle(folder: Path, batch: int = 1) -> Path:
    """A bundle whose graph finds nobody: quick to make with any batch, and run by a real engine."""
    import onnx

    shapes = {"boxes": (batch, 4, 4), "scores": (batch, 4), "embeddings": (batch, 4, D), "count": (batch,)}
    nodes, outputs = [], []
    for name, shape in shapes.items():
        kind = np.dtype(np.int32 if name == "count" else np.float32)
        value = onnx.numpy_helper.from_array(np.zeros(shape, kind), f"no_{name}")
        nodes.append(onnx.helper.make_node("Constant", [], [name], value=value))
        outputs.append(onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(kind), shape))
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, (batch, 96, 160, 3))
    graph = onnx.helper.make_graph(nodes, "empty", [images], outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    staging = folder / "staging"
    staging.mkdir()
    for name in ("model.onnx", "embed.onnx"):
        onnx.save(model, str(staging / name))
    manifest = {
        "name": "empty", "created": "", "height": 96, "width": 160, "batch": batch, "dimensions": D, "detections": 4,
        "embed_boxes": 8, "min_score": 0.3, "checkpoint_sha256": "",
    }  # fmt: skip
    write_bundle(folder / "bundle", staging, manifest)
    return folder / "bundle"
