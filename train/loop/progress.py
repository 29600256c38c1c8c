"""What a run tells while it goes: bar with time left, learning curves, tracking, and the alarm for broken losses."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from personsearch.core.errors import DataError
from personsearch.train import distributed
from personsearch.train.loop.tracking import Tracking

CURVE_POINTS = 300
LATE_STEPS = 20  # on a GPU, losses are read together after so many steps, so that no step waits for its own


class Progress:
    """Collects each step's losses on the device and reads them late; only rank 0 shows and writes anything.

    curve     the losses so far, one row per CURVE_POINTS-th of the run; it continues that of a resumed checkpoint
    tracking  open; who made it closes it
    """

    def __init__(
        self, out: Path, total: int, begin: int, curve: list[dict[str, float]], late: bool, tracking: Tracking
    ) -> None:
        self.out, self.curve, self.tracking = out, curve, tracking
        self.every = max(1, total // CURVE_POINTS)
        self.late = LATE_STEPS if late else 1
        self.skipped = 0
        self._pending: list[tuple[int, list[str], Tensor]] = []
        self._average: dict[str, float] = {}
        self._block: list[dict[str, float]] = []
        leader = distributed.rank() == 0
        self.bar = tqdm(
            total=total, initial=begin, unit="step", desc=out.name, dynamic_ncols=True, disable=not leader
        )  # fmt: skip

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Losses of a step as scalars on the device. DataError, perhaps some steps later, if one is not finite."""
        values = distributed.average(torch.stack([v.detach() for v in losses.values()]))
        self._pending.append((step, list(losses), values))
        if len(self._pending) >= self.late:
            self.drain()

    def count_replaced(self, images: int) -> None:
        self.skipped += images

    def drain(self) -> None:
        """Read what is pending. Called before every checkpoint, so that a broken state is never written."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        rows = torch.stack([values for _, _, values in pending]).tolist()
        for (step, names, _), row in zip(pending, rows, strict=True):
            losses = dict(zip(names, row, strict=True))
            self._check(step, losses)
            for name, value in losses.items():
                old = self._average.get(name, value)
                self._average[name] = 0.95 * old + 0.05 * value
            self.tracking.log(step + 1, {f"loss/{name}": value for name, value in losses.items()})
            self._block.append(losses)
            if len(self._block) >= self.every:
                means = {k: sum(r[k] for r in self._block) / len(self._block) for k in losses}
                self.curve.append({"step": float(step + 1), **means})
                self._block = []
        note = {k: f"{v:.3f}" for k, v in self._average.items()}
        if self.skipped:
            note["damaged"] = str(self.skipped)
        self.bar.set_postfix(note, refresh=False)
        self.bar.update(len(pending))

    def _check(self, step: int, losses: dict[str, float]) -> None:
        broken = [k for k, v in losses.items() if v != v or abs(v) == float("inf")]
        if not broken:
            return
        last = self.out / "last.pth"
        kept = f"{last} holds the last good state" if last.exists() else "no checkpoint had been written yet"
        raise DataError(
            f"the loss is not finite at step {step} ({', '.join(broken)}); {kept}. "
            f"Try a lower optimiser.rate, or optimiser.amp=off"
        )

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Validation figures in the terminal."""
        self.bar.write(f"step {step}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))

    def close(self) -> None:
        self.bar.close()
