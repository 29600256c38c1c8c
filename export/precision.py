"""Lower precisions as graphs of their own: float16 casts in the graph, so that any engine runs what was checked."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx

# Inside a layer's scope these still run in float32: they lose digits or overflow in half precision. Instance norms
# are written as means and variances, whose squares leave float16's range.
DELICATE = frozenset(
    {"Softmax", "Exp", "Log", "ReduceL2", "ReduceMean", "ReduceSum", "Sqrt", "Pow", "Div", "Reciprocal", "TopK"}
)
PRODUCTS = frozenset({"Conv", "MatMul", "Gemm"})
KEPT_SCOPES = ("person", "box")  # class scores and box deltas: tiny layers whose results are compared and decoded


def heavy_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that may run in low precision: convolutions, matrix products and what stands between them.

    Node names are module paths, `/head/units/units.0/first/first.0/Conv`. Operations at the top level or directly
    in `rpn` are decoding, NMS, top-k, RoIAlign's weights and the final L2: they keep float32, except for
    RoIAlign's two matrix products.
    """
    chosen = set()
    for node in model.graph.node:
        scope = node.name.split("/")[1:-1]
        if node.op_type in DELICATE or (scope and scope[0] in KEPT_SCOPES):
            continue
        inside = bool(scope) and (scope[0] != "rpn" or len(scope) > 1)
        if node.op_type in PRODUCTS or inside:
            chosen.add(node.name)
    return chosen


def write_half(source: Path, target: Path) -> None:
    """Rewrite a float32 graph (weights stored in float32) to float16 where that is safe; inputs and outputs stay."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(str(source))
    heavy = heavy_nodes(model)
    blocked = [node.name for node in model.graph.node if node.name not in heavy]
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values below float16's smallest step become zero: intended
        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=[], node_block_list=blocked)
    OnnxModel.graph_topological_sort(model.graph)  # the converter appends its casts at the end
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
