"""What a graph consists of: nodes, precisions, and multiply-adds by stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from personsearch.core.errors import BundleError

NORMALISATIONS = frozenset(
    {"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LpNormalization"}
)
ROI_ALIGN = "RoIAlign"


@dataclass(frozen=True)
class GraphStats:
    nodes: Counter[str]  # operator -> count
    products: dict[str, int]  # stage -> multiply-adds of its convolutions and matrix products, for a whole batch
    quantised: int  # convolutions with int8 weights
    halved: int  # convolutions and matrix products that compute in float16
    opset: int

    @property
    def normalisations(self) -> int:
        """Normalisation operators; a folded graph has none."""
        return sum(count for name, count in self.nodes.items() if name in NORMALISATIONS)

    @property
    def total(self) -> int:
        return sum(self.products.values())


def graph_stats(path: Path) -> GraphStats:
    """Read an ONNX file. A stage is the first part of a node's module path; products outside modules are RoIAlign's.

    Raises BundleError for a file that is none.
    """
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    except Exception as error:  # protobuf's and onnx's own kinds
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise BundleError(f"{path}: not a readable ONNX file ({reason}); export the bundle again") from None
    graph = model.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
        types[value.name] = value.type.tensor_type.elem_type
    makers = {output: node for node in graph.node for output in node.output}
    products: dict[str, int] = {}
    quantised = halved = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        result, second = shapes.get(node.output[0], []), shapes.get(node.input[1], [])
        if not result or not second:
            continue
        inner = int(np.prod(second[1:])) if node.op_type == "Conv" else _inner(node, second)
        scope = node.name.split("/")[1:-1]
        stage = scope[0] if scope else ROI_ALIGN
        products[stage] = products.get(stage, 0) + int(np.prod(result)) * inner
        maker = makers.get(node.input[1])
        quantised += node.op_type == "Conv" and maker is not None and maker.op_type == "DequantizeLinear"
        halved += types.get(node.output[0]) == onnx.TensorProto.FLOAT16
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    return GraphStats(Counter(n.op_type for n in graph.node), products, quantised, halved, opset)


def _inner(node: onnx.NodeProto, second: list[int]) -> int:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return second[-1] if transposed else second[-2]
