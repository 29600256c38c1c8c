"""OIM and LOIM losses (paper sections 3.1 and 3.2, Eq. 2-4 and 7-8) with their look-up table and circular queue."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.train.distributed import average_count, gather_rows
from personsearch.train.model.protonorm import UNLABELLED
from personsearch.train.settings import IdentitySettings


class OIMLoss(nn.Module):
    """Cross-entropy against a look-up table of identities, with a queue of unlabelled people as negatives.

    identities   L, rows of the look-up table (LUT); label t (1..L) owns row t - 1
    queue_size   Q, rows of the circular queue
    dimensions   D
    temperature  tau of Eq. 3
    momentum     "iou": LOIM, the step is the proposal's IoU clipped to [min_step, max_step] (Eq. 7-8);
                 a number eta: OIM, the step is 1 - eta (Eq. 4)

    `forward` gives the loss and changes nothing; `update` writes the LUT and the queue and is called by the
    training loop only after an optimiser step that really happened.
    """

    lut: Tensor
    queue: Tensor
    queue_head: Tensor

    def __init__(
        self,
        identities: int,
        queue_size: int,
        dimensions: int,
        *,
        temperature: float,
        momentum: float | str = "iou",
        min_step: float = 0.0,
        max_step: float = 0.9,
    ) -> None:
        super().__init__()
        self.temperature, self.momentum = temperature, momentum
        self.min_step, self.max_step = min_step, max_step
        self.register_buffer("lut", torch.zeros(identities, dimensions))
        self.register_buffer("queue", torch.zeros(queue_size, dimensions))
        self.register_buffer("queue_head", torch.zeros((), dtype=torch.long))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings (N, D) L2-normalised, labels (N,) -> the mean of -log p_t over labelled rows, 0 without any.

        With several processes: the rank's share, whose mean over the ranks is the loss of the global batch.
        """
        embeddings = embeddings.to(self.lut.dtype)  # float32 also under autocast
        logits = embeddings @ torch.cat([self.lut, self.queue]).t() / self.temperature
        labelled = labels > 0
        targets = torch.where(labelled, labels - 1, -100)
        total = functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        return total / average_count(labelled.sum(), total)

    @torch.no_grad()
    def update(self, embeddings: Tensor, labels: Tensor, ious: Tensor) -> None:
        """Move the LUT towards labelled rows, one after the other, and push unlabelled rows into the queue.

        embeddings (N, D) L2-normalised, labels (N,), ious (N,) of each proposal with its ground truth.
        All ranks' rows take part, in rank order, so that every rank ends with the same state.
        """
        embeddings = gather_rows(embeddings.detach().to(self.lut.dtype))
        labels, ious = gather_rows(labels), gather_rows(ious.to(self.lut.dtype))
        self._update_lut(embeddings, labels, self.steps(ious))
        self._push(embeddings[labels == UNLABELLED])

    def steps(self, ious: Tensor) -> Tensor:
        """(N,) IoUs -> how far each row moves its identity: the c of Eq. 7-8, or 1 - eta of Eq. 4."""
        if self.momentum == "iou":
            return ious.clamp(self.min_step, self.max_step)
        return torch.full_like(ious, 1.0 - float(self.momentum))

    def _update_lut(self, embeddings: Tensor, labels: Tensor, steps: Tensor) -> None:
        """v <- normalise((1 - c) v + c x) in order. Rows of different identities commute, so all first
        occurrences move at once, then all second ones, and so on: as many rounds as the busiest identity has rows."""
        rows = torch.nonzero(labels > 0).flatten()
        if rows.numel() == 0:
            return
        identities = labels[rows] - 1
        order = torch.argsort(identities, stable=True)
        rows, identities = rows[order], identities[order]
        _, counts = identities.unique_consecutive(return_counts=True)
        first = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
        occurrence = torch.arange(len(rows), device=rows.device) - first
        for turn in range(int(counts.max())):
            now = occurrence == turn
            target, source = identities[now], rows[now]
            step = steps[source, None]
            self.lut[target] = functional.normalize((1 - step) * self.lut[target] + step * embeddings[source])

    def _push(self, embeddings: Tensor) -> None:
        size = len(self.queue)
        if size == 0 or len(embeddings) == 0:
            return
        last = embeddings[-size:]  # more than Q at once: only the last Q would survive
        skipped = len(embeddings) - len(last)
        slots = (self.queue_head + skipped + torch.arange(len(last), device=last.device)) % size
        self.queue[slots] = last
        self.queue_head.copy_((self.queue_head + len(embeddings)) % size)


def make_loss(settings: IdentitySettings, identities: int) -> OIMLoss:
    """OIM or LOIM as configured, for so many identities; at least one row, so that data without any can train."""
    return OIMLoss(
        max(1, identities),
        settings.queue,
        settings.dimensions,
        temperature=settings.temperature,
        momentum="iou" if settings.loss == "loim" else settings.oim_momentum,
        min_step=settings.min_step,
        max_step=settings.max_step,
    )
