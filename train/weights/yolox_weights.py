"""Start the edge network from published YOLOX-nano weights in ONNX (Apache-2.0, trained on COCO).

The published file has its BatchNorms folded into convolutions with biases. They are written into our
convolution + BatchNorm pairs as scale 1 and the bias, so those norms must stay frozen while fine-tuning
(`model.freeze_norms`). Convolutions are matched by their order of execution and every shape is checked.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from personsearch.core.errors import CheckpointError
from personsearch.train.model.csp import CSPStem
from personsearch.train.model.dense import DenseRPN
from personsearch.train.model.network import PersonSearch

PERSON_CLASS = 0


def load_yolox_nano(network: PersonSearch, path: str) -> None:
    """Fill stem and RPN of an edge network. Raises CheckpointError if the file is not YOLOX-nano."""
    stem, rpn = network.stem, network.rpn
    if not isinstance(stem, CSPStem) or not isinstance(rpn, DenseRPN):
        raise CheckpointError(f"{path}: YOLOX-nano weights fit only backbone csp_nano with rpn.kind dense")
    try:
        graph = onnx.load(path).graph
        weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; expected YOLOX-nano as an ONNX file") from None
    except Exception as error:  # protobuf's and onnx's own kinds
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise CheckpointError(f"{path}: not a readable ONNX file ({reason})") from None
    source = [n for n in graph.node if n.op_type == "Conv"]
    ours = _convolutions_in_order(network)
    if len(source) != len(ours):
        raise CheckpointError(f"{path}: expected {len(ours)} convolutions of YOLOX-nano, got {len(source)}")
    with torch.no_grad():
        for node, (conv, norm) in zip(source, ours, strict=True):
            if len(node.input) != 3 or node.input[1] not in weights or node.input[2] not in weights:
                raise CheckpointError(f"{path}: a convolution has no weight and bias of its own; is this YOLOX-nano?")
            weight, bias = weights[node.input[1]], weights[node.input[2]]
            if "cls_preds" in node.input[1]:
                weight, bias = weight[PERSON_CLASS : PERSON_CLASS + 1], bias[PERSON_CLASS : PERSON_CLASS + 1]
            if conv is stem.stem[0] and weight.shape[1:] == (12, 3, 3):
                weight = _space_to_depth_as_stride(weight)
            if tuple(conv.weight.shape) != weight.shape or bias.shape != weight.shape[:1]:
                raise CheckpointError(
                    f"{path}: {node.input[1]} has shape {weight.shape}, expected {tuple(conv.weight.shape)}"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise CheckpointError(f"{path}: {node.input[1]} holds numbers that are not finite; it is damaged")
            conv.weight.copy_(torch.from_numpy(weight.copy()))
            if norm is None:
                conv.load_state_dict({"weight": conv.weight, "bias": torch.from_numpy(bias.copy())})
            else:
                state = {
                    "running_mean": torch.zeros(len(bias)),
                    "running_var": torch.full((len(bias),), 1.0 - norm.eps),
                    "weight": torch.ones(len(bias)),
                    "bias": torch.from_numpy(bias.copy()),
                }
                norm.load_state_dict(state, strict=False)  # num_batches_tracked stays


def _space_to_depth_as_stride(weight: np.ndarray) -> np.ndarray:
    """A 3x3 convolution over 2x2 space-to-depth (order: top left, bottom left, top right, bottom right)
    is one 6x6 convolution with stride 2 on the image."""
    out = np.zeros((weight.shape[0], 3, 6, 6), weight.dtype)
    for block, (dy, dx) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        out[:, :, dy::2, dx::2] = weight[:, block * 3 : block * 3 + 3]
    return out


def _convolutions_in_order(network: PersonSearch) -> list[tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions of the detector with the norm that follows each, as a forward pass meets them."""
    ran: list[nn.Module] = []
    hooks = [
        m.register_forward_hook(lambda module, *_: ran.append(module))
        for part in network.detector_parts()
        for m in part.modules()
        if isinstance(m, nn.Conv2d | nn.BatchNorm2d)
    ]
    was_training = network.training
    network.eval()
    with torch.no_grad():
        image: Tensor = torch.zeros(1, *network.canvas, 3, dtype=torch.uint8)
        network.rpn(network.features(image)[0])
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d | None]] = []
    for i, module in enumerate(ran):
        if isinstance(module, nn.Conv2d):
            follower = ran[i + 1] if i + 1 < len(ran) else None
            pairs.append((module, follower if isinstance(follower, nn.BatchNorm2d) else None))
    return pairs
