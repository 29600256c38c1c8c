"""Folding: in a trained network every normalisation is a fixed affine map, which disappears into its neighbour.

ProtoNorm at test time is x -> (x - mu) / sqrt(var + eps) by its running statistics (paper section 3.2), so
before L2 it becomes part of the projection, and inside conv5 (OIMNet+++) it folds like a BatchNorm.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from personsearch.train.model.csp import CSPStem
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.protonorm import LabelFreeNorm, ProtoNorm


def fold(network: PersonSearch) -> PersonSearch:
    """A copy of the network in evaluation mode without any normalisation layer."""
    network = copy.deepcopy(network).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    if isinstance(network.stem, CSPStem) and not network.stem.pixels:
        _fold_roi_sum(network.stem)
    for convolution, (parent, name) in _pairs(network):
        scale, shift = affine_of(getattr(parent, name))
        _absorb(convolution, scale, shift)
        setattr(parent, name, nn.Identity())
    _fold_projection(network)
    left = [name for name, module in network.named_modules() if _is_norm(module)]
    if left:
        raise AssertionError(f"normalisation layers without a convolution before them: {left}")
    return network


def affine_of(norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift, each (C,), of a norm with running statistics."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | ProtoNorm)


def _absorb(layer: nn.Conv2d | nn.Linear, scale: Tensor, shift: Tensor) -> None:
    with torch.no_grad():
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.dim() - 1)))
        bias = shift if layer.bias is None else layer.bias * scale + shift
        layer.bias = nn.Parameter(bias.clone(), requires_grad=False)


def _pairs(network: nn.Module) -> list[tuple[nn.Conv2d, tuple[nn.Module, str]]]:
    """Each convolution with the place of the norm that follows it: neighbours in a Sequential, or the
    conv1/bn1 ... attributes of a ResNet block."""
    pairs = []
    for parent in network.modules():
        children = list(parent.named_children())
        for (_, first), (name, second) in itertools.pairwise(children):
            sequential = isinstance(parent, nn.Sequential)
            named = name.startswith("bn") and isinstance(first, nn.Conv2d)
            if isinstance(first, nn.Conv2d) and _is_norm(second) and (sequential or named):
                pairs.append((first, (parent, name)))
    return pairs


def _fold_roi_sum(stem: CSPStem) -> None:
    """roi_norm stands behind a sum of three convolutions: the scale goes into each, the shift into one."""
    scale, shift = affine_of(stem.roi_norm)
    _absorb(stem.roi_fine, scale, shift)
    for layer in (stem.roi_early, stem.roi_context):
        with torch.no_grad():
            layer.weight.mul_(scale.view(-1, 1, 1, 1))
    stem.roi_norm = nn.Identity()  # type: ignore[assignment]


def _fold_projection(network: PersonSearch) -> None:
    norm = network.norm.norm if isinstance(network.norm, LabelFreeNorm) else network.norm
    if _is_norm(norm):
        _absorb(network.projection, *affine_of(norm))
    network.norm = LabelFreeNorm(nn.Identity())
