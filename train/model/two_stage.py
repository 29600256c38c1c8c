"""SeqNet's first stage (arXiv 2103.10148): a head of its own finds and refines; people are described where they stand.

The second stage (`PersonSearch.head`) then learns class, box and embedding on the refined boxes, and LOIM's step is
their IoU. At test time the first stage's score counts, as SeqNet has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from personsearch.train.model.coder import ROI_WEIGHTS, clip_boxes, decode, wide


class FirstStage(nn.Module):
    """head: (N, C, h, w) RoI features -> (N, width), of the second stage's kind but with weights of its own."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        width = int(head.out_channels)  # type: ignore[arg-type]
        self.person, self.box = nn.Linear(width, 2), nn.Linear(width, 4)
        for layer, std in ((self.person, 0.01), (self.box, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, crops: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Class logits (N, 2) and box deltas (N, 4)."""
        vectors = self.head(crops, labels)
        return wide(self.person(vectors)), wide(self.box(vectors))

    @staticmethod
    def score_logit(person: Tensor) -> Tensor:
        """(N, 2) -> (N,): the sigmoid of it is the softmax's share of a person."""
        return person[:, 1] - person[:, 0]

    @staticmethod
    @torch.no_grad()
    def refined(boxes: list[Tensor], deltas: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Proposals (n, 4) per image with the deltas (sum of n, 4) -> refined boxes within each image's (h, w)."""
        parts = deltas.detach().split([len(b) for b in boxes])
        return [clip_boxes(decode(d, b, ROI_WEIGHTS), *s) for b, d, s in zip(boxes, parts, sizes, strict=True)]
