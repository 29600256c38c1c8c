"""Start the omni-scale head from Open Model Zoo's person-reidentification-retail-0277 or -0287 (Apache-2.0).

The published files have their BatchNorms folded into convolutions with biases. They are written into our convolution +
BatchNorm pairs as scale 1 and the bias. Constants are matched by their order of execution, and every shape is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from personsearch.core.errors import CheckpointError
from personsearch.train.model.osnet import ChannelGate, ContextGate, ConvNorm, OmniScaleBlock, OmniScaleHead
from personsearch.train.weights.openvino_file import read_network


def load_reid(head: OmniScaleHead, projection: nn.Linear, path: str) -> None:
    """Fill head and projection. What follows the published projection (bias, BatchNorm's shift, PReLU) has no place
    here: ProtoNorm takes it. Raises CheckpointError if the file is not such a network, or one of other widths.
    """
    constants = _constants(path)
    targets = list(_targets(head, projection))
    if len(constants) < len(targets):
        raise CheckpointError(f"{path}: expected {len(targets)} constants of a retail re-id net, got {len(constants)}")
    colours = (head.pixel_norm.weight, head.pixel_norm.bias, head.first.weight)
    for number, (target, constant) in enumerate(zip(targets, constants, strict=False)):
        value = torch.from_numpy(constant.astype(np.float32))
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: constant {number} holds numbers that are not finite; the file is damaged")
        if target is head.pool.weight and value.dim() == 5:
            value = resized_pool(value, (target.shape[2], target.shape[3]))
        if target.numel() != value.numel():
            raise CheckpointError(
                f"{path}: constant {number} has shape {tuple(value.shape)}, expected {tuple(target.shape)}; "
                "model.roi.widths must be [32, 128, 192, 256] for retail-0287, [64, 256, 384, 512] for retail-0277"
            )
        if any(target is c for c in colours):
            value = value.flip(1)  # published for RGB; our canvas is BGR
        with torch.no_grad():
            target.copy_(value.reshape(target.shape))


def _constants(path: str) -> list[np.ndarray]:
    """Weights in order of execution, from the instance norm on the pixels to the projection."""
    model = read_network(path, "a retail re-id net: an .xml file with its .bin", CheckpointError)
    kinds = ("Convolution", "GroupConvolution", "MatMul", "Add", "Multiply")
    found = []
    for operation in model.get_ordered_ops():
        if operation.get_type_name() in kinds:
            for port in operation.inputs():
                source: Any = port.get_source_output().get_node()
                while source.get_type_name() == "Convert":
                    source = source.input(0).get_source_output().get_node()
                if source.get_type_name() == "Constant":
                    found.append(source.get_data())
    return found[1:]  # the first scales pixels, which the instance norm makes pointless


def _targets(head: OmniScaleHead, projection: nn.Linear) -> Iterator[Tensor]:
    """Our tensors in the same order; norms that were folded there are made neutral on the way."""
    yield from (head.pixel_norm.weight, head.pixel_norm.bias, head.first.weight)
    yield from (head.first_norm.weight, head.first_norm.bias)
    for layer in (layer for stage in head.stages for layer in stage):  # type: ignore[union-attr,attr-defined]
        if isinstance(layer, ConvNorm):
            yield from _conv_norm(layer)
        elif isinstance(layer, OmniScaleBlock):
            yield from _conv_norm(layer.reduce)
            for stream, gate in zip(layer.streams, layer.gates, strict=True):
                for light in stream:  # type: ignore[union-attr,attr-defined]
                    yield from _conv_norm(light)
                yield from _gate(gate)
            yield from _conv_norm(layer.expand)
            if isinstance(layer.shortcut, ConvNorm):
                yield from _conv_norm(layer.shortcut)
    assert head.pool.bias is not None
    yield from (head.pool.weight, head.pool.bias, projection.weight)


def _conv_norm(layers: nn.Sequential) -> Iterator[Tensor]:
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            yield layer.weight
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.running_var.fill_(1.0 - layer.eps)  # type: ignore[union-attr,attr-defined]
            nn.init.ones_(layer.weight)
            yield layer.bias


def _gate(gate: nn.Module) -> Iterator[Tensor]:
    if isinstance(gate, ChannelGate):
        yield from (gate.squeeze.weight, gate.squeeze.bias, gate.excite.weight, gate.excite.bias)  # type: ignore[misc]
    elif isinstance(gate, ContextGate):
        yield from (gate.weight, gate.bias)


def resized_pool(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """A spatial sum's weights, (C, ..., h, w), as (C, 1, *size): a new cell stands for old ones or a part."""
    old = weight.reshape(weight.shape[0], 1, *weight.shape[-2:])
    factor = (old.shape[2] * old.shape[3]) / (size[0] * size[1])
    return nn.functional.interpolate(old, size, mode="area") * factor
