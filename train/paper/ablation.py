"""Runs behind the paper's Table 2, Fig. 5 and Fig. S1: one row, one seed, one result file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from personsearch.core.errors import DataError
from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.train.loop.trainer import Trainer
from personsearch.train.settings import TrainSettings


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    identity: dict[str, Any]  # what it changes in model.identity


ROWS = (
    Row("none-oim", "none, OIM", {"norm": "none", "loss": "oim"}),
    Row("bn-oim", "BatchNorm, OIM", {"norm": "batchnorm", "loss": "oim"}),
    Row("pn-oim", "ProtoNorm, OIM", {"norm": "protonorm", "loss": "oim"}),
    Row("bn-loim", "BatchNorm, LOIM", {"norm": "batchnorm", "loss": "loim"}),
    Row("pn-loim", "ProtoNorm, LOIM", {"norm": "protonorm", "loss": "loim"}),
    # Two rows that the paper does not have: is it the IoU, or only a larger step; and is it the background?
    Row(
        "pn-oim-0.7", "ProtoNorm, OIM with constant step 0.7", {"norm": "protonorm", "loss": "oim", "oim_momentum": 0.3}
    ),
    Row("pn-loim-fg", "ProtoNorm without background, LOIM", {"norm": "protonorm", "norm_background": False}),
)


def settings_of(base: TrainSettings, row: Row, seed: int, out: Path) -> TrainSettings:
    identity = base.model.identity.model_copy(update=row.identity)
    model = base.model.model_copy(update={"identity": identity})
    return base.model_copy(update={"model": model, "seed": seed, "out": str(out)})


def run_row(base: TrainSettings, row: Row, seed: int, folder: Path) -> dict[str, Any]:
    """Train and score, or read the result that an earlier call left in `folder`; an interruption costs one run."""
    return kept(folder / f"{row.key}-{seed}.json", lambda: _train_and_score(base, row, seed, folder))


def _train_and_score(base: TrainSettings, row: Row, seed: int, folder: Path) -> dict[str, Any]:
    began = time.process_time()
    trainer = Trainer(settings_of(base, row, seed, folder / f"{row.key}-{seed}"))
    trainer.network.train()
    counts = occurrences(trainer)
    epochs = []
    for batches in trainer.batches():
        losses = trainer.train_step(batches)
        if not torch.isfinite(losses["loss"]):
            raise ArithmeticError(f"{row.key}, seed {seed}: the loss is not finite at step {trainer.step}")
        if trainer.step % trainer.steps_per_epoch == 0:
            epochs.append(separability(trainer.identity.lut, trainer.identity.queue, counts))
    figures = trainer.evaluate().figures()
    return {
        "row": row.key, "seed": seed, "steps": trainer.total_steps, "figures": figures, "separability": epochs,
        "cpu_s": round(time.process_time() - began, 1),
    }  # fmt: skip


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a run: from `path` if it has one, else made and written there."""
    if not path.exists():
        result = make()
        replace_file(path, f"{json.dumps(result, indent=1)}\n".encode())
        return result
    try:
        result = parse_json(path.read_bytes(), finite=False)
        if {"row", "seed", "separability"} <= result.keys():
            return result
    except (ValueError, AttributeError):
        pass
    raise DataError(f"{path}: not the result of a run; remove it to run that row again")


def occurrences(trainer: Trainer) -> Tensor:
    """(L,) how often each identity is annotated in the training images."""
    labels = torch.cat([torch.from_numpy(rows) for rows in trainer.samples.labels])
    return torch.bincount(labels[labels > 0] - 1, minlength=len(trainer.identity.lut))


def separability(lut: Tensor, queue: Tensor, counts: Tensor) -> dict[str, list[float]]:
    """Mean and standard deviation of the cosines between different rows (Fig. 5), and per head and tail (Fig. S1).

    Rows that were never written are left out. Head and tail: identities above, and not above, the median number of
    occurrences; for each, the mean cosine with all other rows of the LUT.
    """
    filled = lut.norm(dim=1) > 0.5
    lut, counts, queue = lut[filled], counts[filled], queue[queue.norm(dim=1) > 0.5]
    result = {}
    for name, rows in (("lut", lut), ("queue", queue), ("both", torch.cat([lut, queue]))):
        cosines = _pairs(rows)
        result[name] = [float(cosines.mean()), float(cosines.std())] if len(cosines) > 1 else [float("nan")] * 2
    unit = functional.normalize(lut)
    each = (unit @ unit.sum(0) - 1) / max(1, len(unit) - 1)
    head = counts > counts.median() if len(counts) else counts > 0
    for name, part in (("head", each[head]), ("tail", each[~head])):
        result[name] = [float(part.mean()), float(part.std())] if len(part) > 1 else [float("nan")] * 2
    return result


def _pairs(rows: Tensor) -> Tensor:
    unit = functional.normalize(rows)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    return (unit @ unit.t())[first, second]
