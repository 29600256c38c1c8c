"""int8 graphs: Q/DQ nodes in front of the convolutions that bear it, ranges from the user's own frames.

The quantiser is onnxruntime's. NNCF and NVIDIA ModelOpt were tried on the edge network as well (docs/export.md); with
any of them the choice of layers decides, and it is made here:

- depthwise convolutions stay float: one scale for channels of very different ranges ruins them, and they are cheap;
- the first convolution and the last ones (class scores, box deltas) stay float: few operations, much precision;
- a convolution that reads a concatenation stays float: OpenVINO 2026.4 computes those wrongly;
- a convolution stays float if its own error on the calibration frames, inputs and weights rounded, is larger than
  -25 dB (`MIN_DECIBEL`): such layers have outlier channels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from personsearch.export.precision import heavy_nodes

METHODS = ("mean-max", "max", "percentile", "entropy")
PERCENTILE = 99.99
MIN_DECIBEL = 25.0
PROBED = 4  # frames on which single layers are judged


class _Frames:
    """Canvases (H, W, 3) one call at a time, in the form that onnxruntime's calibrators read."""

    def __init__(self, canvases: Sequence[np.ndarray], batch: int) -> None:
        self.batches = [np.stack([canvases[(i + j) % len(canvases)] for j in range(batch)])
                        for i in range(0, len(canvases), batch)]  # fmt: skip
        self.set_range(0, len(self.batches))

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self.batches[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self._rest, None)
        return None if images is None else {"images": images}

    def __len__(self) -> int:
        return len(self.batches)


def write_int8(
    source: Path, target: Path, canvases: Sequence[np.ndarray], *, batch: int = 1, method: str = "mean-max"
) -> int:
    """Quantise a float32 graph (weights stored in float32): weights per channel, everything symmetric.

    canvases  letterboxed frames (H, W, 3) uint8; several hundred of the cameras that the model will see
    method    how a tensor's range follows from the frames: `mean-max` is the mean of the frames' largest values
    Returns how many convolutions are int8 now.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if not len(canvases):
        raise ValueError("int8 needs at least one frame to calibrate on")
    frames = _Frames(canvases, batch)
    chosen = _convolutions(source, frames.batches[:: max(1, len(frames) // PROBED)][:PROBED])
    options: dict[str, object] = {
        "ActivationSymmetric": True, "WeightSymmetric": True, "CalibTensorRangeSymmetric": True,
        # Biases stay float: TensorRT refuses int32 biases, and OpenVINO is twice as fast without them.
        "QuantizeBias": False,
        # Activations are quantised where a convolution reads them, not before the SiLU that follows it.
        "OpTypesToExcludeOutputQuantization": ["Conv"],
        "CalibMovingAverage": method == "mean-max",
    }  # fmt: skip
    if method in ("percentile", "entropy"):
        options["CalibStridedMinMax"] = 1  # histograms frame by frame: otherwise every tensor of every frame is kept
        options["CalibPercentile"] = PERCENTILE
    kinds = {"percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # it recommends a preprocessing step that the static graph does not need
    try:
        quantize_static(
            str(source), str(target), frames, quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"], nodes_to_quantize=chosen,
            calibrate_method=kinds.get(method, CalibrationMethod.MinMax), extra_options=options,
        )  # fmt: skip
    finally:
        root.setLevel(level)
    return len(chosen)


def _convolutions(source: Path, probes: Sequence[np.ndarray]) -> list[str]:
    """Names of the convolutions to quantise, by the rules at the top of this file."""
    model = onnx.load(str(source))
    heavy = heavy_nodes(model)
    makers = {output: node for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.name in heavy]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    candidates = []
    for node in convolutions[1:]:
        maker = makers.get(node.input[0])
        inner = len(node.name.split("/")) > 4 or not node.name.startswith("/rpn/")
        dense = _attribute(node, "group", [1])[0] == 1
        if node.input[1] in weights and dense and inner and (maker is None or maker.op_type != "Concat"):
            candidates.append(node)
    errors = _decibels(model, candidates, weights, probes)
    return [node.name for node in candidates if errors[node.name] >= MIN_DECIBEL]


def _decibels(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, onnx.TensorProto],
    probes: Sequence[np.ndarray],
) -> dict[str, float]:
    """Each convolution's signal to noise ratio in dB when its own input and weights are rounded to int8; the worst
    of the probes."""
    import onnxruntime
    import torch
    from torch.nn.functional import conv2d

    inputs = sorted({node.input[0] for node in nodes})
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inputs)
    session = onnxruntime.InferenceSession(opened.SerializeToString(), providers=["CPUExecutionProvider"])
    worst = {node.name: np.inf for node in nodes}
    for images in probes:
        values = dict(zip(inputs, session.run(inputs, {"images": images}), strict=True))
        for node in nodes:
            x, kernel = values[node.input[0]][:8], numpy_helper.to_array(weights[node.input[1]]).copy()
            step = max(float(np.abs(x).max()), 1e-12) / 127
            steps = np.maximum(np.abs(kernel).reshape(len(kernel), -1).max(1), 1e-12).reshape(-1, 1, 1, 1) / 127
            pads = _attribute(node, "pads", [0, 0, 0, 0])
            if pads[:2] != pads[2:]:
                worst[node.name] = -np.inf
                continue
            stride, dilation = _attribute(node, "strides", [1, 1]), _attribute(node, "dilations", [1, 1])
            exact, rounded = (
                conv2d(torch.from_numpy(a), torch.from_numpy(b), None, stride, pads[:2], dilation)
                for a, b in ((x, kernel), (np.round(x / step) * step, np.round(kernel / steps) * steps))
            )
            signal = float((exact - exact.mean((0, 2, 3), keepdim=True)).square().mean())
            noise = float((exact - rounded).square().mean())
            worst[node.name] = min(worst[node.name], 10 * np.log10((signal + 1e-20) / (noise + 1e-20)))
    return worst


def _attribute(node: onnx.NodeProto, name: str, default: list[int]) -> list[int]:
    for attribute in node.attribute:
        if attribute.name == name:
            return list(attribute.ints) or [attribute.i]
    return default
