"""From deploy graphs to ONNX files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from personsearch.core.engines.onnx_opset import OPSET

LARGE = 1024  # elements; smaller constants stay in float32
MOST = float(np.finfo(np.float16).max)


def write_onnx(
    graph: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    inner_names: Sequence[str] = (),
) -> None:
    """Trace `graph` with fixed shapes and write it.

    inner_names  names of further results that stay inside the file as named tensors, not as outputs
    """
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns about Python integers from shapes; shapes are fixed here on purpose.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(), inputs, str(path), input_names=list(input_names),
            output_names=[*output_names, *inner_names], opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load(str(path))
    del model.graph.output[len(output_names) :]
    model.doc_string = "personsearch deploy graph"
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def halve_weights(source: Path, target: Path) -> None:
    """Store large weights as float16 with a cast behind them: half the file, still computed in float32."""
    model = onnx.load(str(source))
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LARGE:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > MOST:
            continue
        name, stored = tensor.name, f"{tensor.name}_fp16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT, name=f"{name}_cast"))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def round_weights(folded: nn.Module) -> None:
    """Round a folded network's weights, in place, to what `halve_weights` stores of them."""
    with torch.no_grad():
        for weight in folded.parameters():
            if weight.numel() >= LARGE and weight.abs().max() <= MOST:
                weight.copy_(weight.half())
