"""A detector learns what another one with the same layers does, on frames without annotations: feature distillation.

What it is for: a detector with a quicker activation. Every layer is taught, so a few thousand frames are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.core.errors import CheckpointError
from personsearch.train.model.activation import steepness
from personsearch.train.model.csp import ConvUnit
from personsearch.train.model.dense import DenseRPN
from personsearch.train.model.network import PersonSearch
from personsearch.train.weights.checkpoint import load_network

SCORES, BOX_CELLS = 0.3, 0.1  # weight of the scores beside maps and boxes; errors of boxes above this count linearly
QUIET = 0.01  # of a map's variance: what a channel that hardly varies is measured by
MOST = 2.0  # a channel is stretched at most so much by `adjust`


class DetectorImitation(nn.Module):
    """Compares a network's detector with a teacher's.

    forward: network, frames (B, H, W, 3) uint8 BGR on the canvas -> three scalar losses, where nought is the same:
      maps    squared differences of what the layers give, in shares of the teacher's variance by channel
      scores  cross-entropy of person and objectness with the teacher's, less its own entropy, per person of the teacher
      boxes   smooth L1 of the cells' boxes in cells, weighted by the teacher's scores
    """

    def __init__(self, path: str | Path, network: PersonSearch) -> None:
        """Raises CheckpointError for a file that is no checkpoint, or whose detector has other layers."""
        super().__init__()
        self.teacher, _ = load_network(path, size=network.canvas)
        own, other = ({k: v.shape for k, v in n.state_dict().items() if k.startswith(("stem.", "rpn."))}
                      for n in (network, self.teacher))  # fmt: skip
        if own != other:
            raise CheckpointError(f"{path}: its detector has other layers than the model that is to imitate it")
        self.teacher.requires_grad_(False)
        self.factor = steepness(network.settings) / steepness(self.teacher.settings)

    def leave_to_learn(self, network: PersonSearch) -> None:
        """Only the detector learns, and not its first layer: it gives the same before its activation already, and
        frames of 0 to 255 make the smallest change of its weights a large one."""
        network.requires_grad_(False)
        for part in network.detector_parts():
            part.requires_grad_(part is not network.stem.stem)

    def train(self, mode: bool = True) -> DetectorImitation:
        """The teacher's norms stand still."""
        self.training = mode
        return self

    def forward(self, network: PersonSearch, frames: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            person, objectness, boxes, wanted = _see(self.teacher, frames)
            people, objects = torch.sigmoid(person), torch.sigmoid(objectness)
            scores = people * objects
            count = scores.sum() + 1
        for name, part in network.stem.named_children():
            if name.startswith("roi_"):  # the head's share of the stem: its norm stands still, too
                part.eval()
        own_person, own_objectness, own_boxes, given = _see(network, frames)
        maps = [_share(given[name] / self.factor, wanted[name]) for name in wanted]
        excess = _excess(own_objectness, objects).sum() + (_excess(own_person, people) * objects).sum()
        assert isinstance(network.rpn, DenseRPN)
        stride = network.rpn.cell_stride
        errors = functional.smooth_l1_loss(own_boxes / stride, boxes / stride, reduction="none", beta=BOX_CELLS)
        return {
            "maps": torch.stack(maps).mean(),
            "scores": SCORES * excess / count,
            "boxes": (scores[..., None] * errors).sum() / count,
        }

    @torch.no_grad()
    def adjust(self, network: PersonSearch, frames: Tensor) -> None:
        """Give each channel before each activation the teacher's mean and deviation on these frames, layer by layer.

        So a network whose activations were exchanged starts close to what it did before.
        """
        wanted: dict[str, tuple[Tensor, Tensor]] = {}  # in the order in which layers run

        def note(name: str) -> Callable[..., None]:
            return lambda _module, _inputs, out: wanted.__setitem__(name, _moments(out))

        with _hooks(self.teacher, {f"{name}.1": note(name) for name in _units(self.teacher)}):
            _see(self.teacher, frames)
        for name, moments in wanted.items():
            mean, deviation = (self.factor * moment for moment in moments)
            own_mean, own_deviation = _moments_of(network, f"{name}.1", frames)
            norm = network.get_submodule(f"{name}.1")
            assert isinstance(norm, nn.BatchNorm2d)
            stretch = (deviation / own_deviation.clamp(min=1e-6)).clamp(1 / MOST, MOST)
            norm.weight.mul_(stretch)
            norm.bias.copy_((norm.bias - own_mean) * stretch + mean)


def _see(network: PersonSearch, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Logits of person and objectness (B, M), boxes (B, M, 4) on the canvas, and maps (B, C, h, w) by layer."""
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, out: maps.__setitem__(name, out)

    assert isinstance(network.rpn, DenseRPN)
    layers = {f"stem.{name}" for name, _ in network.stem.named_children() if not name.startswith("roi_")}
    towers = ("stems", "class_towers", "box_towers")
    layers |= {f"rpn.{part}.{i}" for part in towers for i in range(len(network.rpn.strides))}
    with _hooks(network, {name: keep(name) for name in sorted(layers)}):
        person, objectness, boxes = network.rpn.raw(network.features(frames)[0])
    return person, objectness, boxes, maps


@contextmanager
def _hooks(network: PersonSearch, hooks: dict[str, Callable[..., None]]) -> Iterator[None]:
    handles = [network.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _units(network: PersonSearch) -> list[str]:
    parts = {id(m) for part in network.detector_parts() for m in part.modules()}
    return [name for name, m in network.named_modules() if isinstance(m, ConvUnit) and id(m) in parts]


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, h, w) -> mean and deviation of each channel."""
    return values.mean((0, 2, 3)), values.std((0, 2, 3))


class _SeenError(Exception):
    """Ends a forward pass behind the layer that was asked for."""


def _moments_of(network: PersonSearch, name: str, frames: Tensor) -> tuple[Tensor, Tensor]:
    found: list[tuple[Tensor, Tensor]] = []

    def hook(_: nn.Module, __: object, out: Tensor) -> None:
        found.append(_moments(out))
        raise _SeenError

    with _hooks(network, {name: hook}), suppress(_SeenError):
        _see(network, frames)
    return found[0]


def _share(given: Tensor, wanted: Tensor) -> Tensor:
    """Squared differences of (B, C, h, w), in shares of each channel's variance in `wanted`; the channels' mean."""
    variance = wanted.var((0, 2, 3)) + QUIET * wanted.var() + 1e-6
    return ((given - wanted).square().mean((0, 2, 3)) / variance).mean()


def _excess(logits: Tensor, probability: Tensor) -> Tensor:
    entropy = functional.binary_cross_entropy(probability, probability, reduction="none")
    return functional.binary_cross_entropy_with_logits(logits, probability, reduction="none") - entropy
