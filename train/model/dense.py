"""The edge preset's region proposal network: anchor-free, one box per cell on three strides.

Each cell predicts a person logit, an objectness logit and a box; a cell's score is the product of the two
probabilities. Cells are assigned to people by the cost of their current predictions (SimOTA, from the
YOLOX report, arXiv 2107.08430), so that no anchor sizes have to be tuned to a camera.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.train.distributed import average_count
from personsearch.train.model.coder import clip_boxes, wide
from personsearch.train.model.csp import ConvUnit, separable
from personsearch.train.settings import RpnSettings
from personsearch.train.vision import box_iou

HIDDEN, CENTRE_RADIUS, CANDIDATES, IOU_COST, OUTSIDE_COST = 64, 2.5, 10, 3.0, 1e5
MAX_LOG_CELLS = 6.0  # a box side of at most exp(6) = 403 cells keeps exp() finite in fp16


class DenseRPN(nn.Module):
    """forward: pyramid -> person logits (B, M) and boxes (B, M, 4) on the canvas, M cells of all strides."""

    cells: Tensor
    cell_stride: Tensor

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], canvas: tuple[int, int], settings: RpnSettings
    ):
        super().__init__()
        self.strides, self.canvas = strides, canvas
        self.stems = nn.ModuleList(ConvUnit(c, HIDDEN, 1) for c in channels)
        self.class_towers = nn.ModuleList(_tower() for _ in channels)
        self.box_towers = nn.ModuleList(_tower() for _ in channels)
        self.person = nn.ModuleList(nn.Conv2d(HIDDEN, 1, 1) for _ in channels)
        self.box = nn.ModuleList(nn.Conv2d(HIDDEN, 4, 1) for _ in channels)
        self.objectness = nn.ModuleList(nn.Conv2d(HIDDEN, 1, 1) for _ in channels)
        for layer in [*self.person, *self.objectness]:
            nn.init.constant_(layer.bias, -4.6)  # a prior of 1 %, so that empty cells do not drown the start
        cells = [_cells(canvas, stride) for stride in strides]
        self.register_buffer("cells", torch.cat(cells), persistent=False)
        sizes = [torch.full((len(c), 1), float(s)) for c, s in zip(cells, strides, strict=True)]
        self.register_buffer("cell_stride", torch.cat(sizes), persistent=False)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        person, objectness, boxes = self.raw(features)
        return self._score_logit(person, objectness), clip_boxes(boxes, *self.canvas)

    def raw(self, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        person, objectness, boxes = [], [], []
        for level, feature in enumerate(features):
            x = self.stems[level](feature)
            person.append(self.person[level](self.class_towers[level](x)).flatten(1))
            for_box = self.box_towers[level](x)
            boxes.append(self.box[level](for_box).flatten(2).transpose(1, 2))
            objectness.append(self.objectness[level](for_box).flatten(1))
        raw = wide(torch.cat(boxes, 1))
        centre = (raw[..., :2] + self.cells) * self.cell_stride
        half = torch.exp(raw[..., 2:].clamp(max=MAX_LOG_CELLS)) * self.cell_stride / 2
        decoded = torch.cat([centre - half, centre + half], -1)
        return wide(torch.cat(person, 1)), wide(torch.cat(objectness, 1)), decoded

    @staticmethod
    def _score_logit(person: Tensor, objectness: Tensor) -> Tensor:
        """The logit whose sigmoid is sigmoid(person) * sigmoid(objectness)."""
        probability = (torch.sigmoid(person) * torch.sigmoid(objectness)).clamp(1e-6, 1 - 1e-6)
        return torch.log(probability / (1 - probability))

    def losses(self, features: list[Tensor], targets: list[Tensor], draws: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """targets: per image (n, 4) boxes -> loss, and `forward`'s logits and boxes (without gradient).

        Nothing is sampled here, so `draws` is not used; the anchors' RPN needs it.
        """
        person, objectness, boxes = self.raw(features)
        positives, classification, regression = 0, person.sum() * 0, boxes.sum() * 0
        object_target = torch.zeros_like(objectness)
        for i, truth in enumerate(targets):
            with torch.no_grad():
                logit = self._score_logit(person[i], objectness[i])
                cell, owner, overlap = self._assign(torch.sigmoid(logit), boxes[i], truth)
            if len(cell) == 0:
                continue
            positives += len(cell)
            object_target[i, cell] = 1.0
            classification = classification + functional.binary_cross_entropy_with_logits(
                person[i, cell], overlap, reduction="sum"
            )
            regression = regression + _iou_loss(boxes[i, cell], truth[owner])
        existence = functional.binary_cross_entropy_with_logits(objectness, object_target, reduction="sum")
        loss = (classification + existence + 5.0 * regression) / average_count(positives, objectness)
        logits = self._score_logit(person, objectness).detach()
        return loss, logits, clip_boxes(boxes.detach(), *self.canvas)

    def _assign(self, score: Tensor, boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positive cells, the index of their person, and their IoU with it."""
        none = torch.zeros(0, dtype=torch.long, device=score.device)
        if len(truth) == 0:
            return none, none, score[:0]
        centre = (self.cells + 0.5) * self.cell_stride
        middle = (truth[:, :2] + truth[:, 2:]) / 2
        near = ((centre[None] - middle[:, None]).abs() < CENTRE_RADIUS * self.cell_stride[None]).all(-1)
        inside = ((centre[None] > truth[:, None, :2]) & (centre[None] < truth[:, None, 2:])).all(-1)
        candidate = torch.nonzero((near | inside).any(0)).flatten()
        if len(candidate) == 0:
            return none, none, score[:0]
        overlap = box_iou(truth, boxes[candidate])
        cost = -torch.log(overlap + 1e-8) * IOU_COST - torch.log(score[candidate].clamp(min=1e-6))[None]
        cost = cost + OUTSIDE_COST * ~(near & inside)[:, candidate]
        wanted = overlap.topk(min(CANDIDATES, len(candidate)), dim=1).values.sum(1).int().clamp(min=1)
        rank = cost.argsort(1).argsort(1)
        chosen = rank < wanted[:, None]
        cost = torch.where(chosen, cost, torch.inf)
        best, owner = cost.min(0)  # a cell that several people want goes to the cheapest
        taken = torch.isfinite(best)
        return candidate[taken], owner[taken], overlap[owner[taken], taken.nonzero().flatten()]


def _tower() -> nn.Sequential:
    return nn.Sequential(separable(HIDDEN, HIDDEN, 3), separable(HIDDEN, HIDDEN, 3))


def _cells(canvas: tuple[int, int], stride: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(canvas[0] // stride), torch.arange(canvas[1] // stride), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).float()


def _iou_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    size = (torch.minimum(boxes[:, 2:], truth[:, 2:]) - torch.maximum(boxes[:, :2], truth[:, :2])).clamp(min=0)
    intersection = size.prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (truth[:, 2:] - truth[:, :2]).prod(1) - intersection
    return (1 - (intersection / union.clamp(min=1e-6)) ** 2).sum()
