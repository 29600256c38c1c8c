#!/usr/bin/env python
"""Average two checkpoints of one network: `python train/blend.py START.pth TRAINED.pth --out BLEND.pth`.

Fine-tuning on a few hundred people forgets part of what the initial weights knew of many thousands. Weights between the
start and the end of a run keep both (weight-space ensembling, arXiv 2109.01903). train/run.py and train/adapt.py keep
the start of a fine-tuning as start.pth.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from personsearch.core.commands import command_line, within
from personsearch.core.config import parse_size
from personsearch.core.errors import CheckpointError, UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("start", type=Path, help="checkpoint before training")
    parser.add_argument("trained", type=Path, help="checkpoint after training")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights, 0 to 1 (default 0.5)")
    parser.add_argument(
        "--people",
        default="",
        metavar="HxW",
        help="pool people at another size in pixels (omniscale head), multiples of 16",
    )
    parser.add_argument(
        "--statistics", type=within(int, 0, 10_000), default=24, metavar="N",
        help="batches of the training data to renew the norms' running statistics on, which an average does not fit "
        "(default 24; 0 averages them too)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pth")
    given = parser.parse_args()
    if not 0 <= given.share <= 1:
        raise UserError(f"--share: expected a number from 0 to 1, got {given.share}")
    from personsearch.train.weights.checkpoint import save_checkpoint

    content = blend(given.start, given.trained, given.share)
    if given.people:
        resize_people(content, given.people)
    if given.statistics:
        renew_statistics(content, given.statistics)
    save_checkpoint(given.out, content)
    print(f"{given.out}: {given.share:g} of {given.trained} and {1 - given.share:g} of {given.start}")
    return 0


def blend(start: Path, trained: Path, share: float) -> dict[str, Any]:
    """Configuration and weights of a checkpoint: share * trained + (1 - share) * start, running statistics included.

    Raises CheckpointError if the two are not of one network.
    """
    from personsearch.train.weights.checkpoint import load_checkpoint

    first, last = load_checkpoint(start), load_checkpoint(trained)
    before, after = first["model"], last["model"]
    other = [k for k in before.keys() | after.keys() if k not in before or k not in after
             or before[k].shape != after[k].shape]  # fmt: skip
    if other:
        raise CheckpointError(f"{start} and {trained} are not of one network: '{min(other)}' differs")
    mixed = {k: before[k].float().lerp(v.float(), share) if v.is_floating_point() else v for k, v in after.items()}
    return {"config": last["config"], "model": mixed}


def resize_people(content: dict[str, Any], text: str) -> None:
    """Change a checkpoint with an omni-scale head, in place, to people of HxW pixels.

    Only the weights of its last spatial sum depend on the size; they are interpolated.
    """
    from personsearch.train.weights.checkpoint import checkpoint_settings
    from personsearch.train.weights.reid_weights import resized_pool

    height, width = parse_size("--people", text)
    if not height or not width or height % 16 or width % 16:
        raise UserError(f"--people: expected HEIGHTxWIDTH in multiples of 16, got '{text}'")
    weight = content["model"].get("head.pool.weight")
    if weight is None:
        raise CheckpointError("--people needs a checkpoint with model.roi.head: omniscale")
    content["model"]["head.pool.weight"] = resized_pool(weight, (height // 16, width // 16))
    content["config"] = checkpoint_settings(content, "--people").model_dump(mode="json")
    content["config"]["model"]["roi"] |= {"height": height, "width": width}


def renew_statistics(content: dict[str, Any], batches: int) -> None:
    """Running means and variances of the trained norms, in place, as means over batches of the training data."""
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from personsearch.train.data.samples import Samples, WeightedDraws, collate
    from personsearch.train.sides import fit_of
    from personsearch.train.weights.checkpoint import build_network, checkpoint_settings

    settings = checkpoint_settings(content, "blend")
    network = build_network(content, "blend")
    samples = Samples(settings.data, fit_of(settings.model), seed=settings.seed)
    draws = WeightedDraws(samples.weights, settings.optimiser.batch, settings.seed, 0, batches, 0, 1)
    network.train()
    norms = [m for m in network.modules() if hasattr(m, "running_mean") and hasattr(m, "momentum") and m.training]
    loader = DataLoader(samples, batch_sampler=draws, collate_fn=collate)
    for number, (images, targets) in enumerate(tqdm(loader, desc="statistics", unit="batch")):
        for norm in norms:
            norm.momentum = 1 / (1 + number)  # type: ignore[assignment]
        with torch.no_grad():
            network.losses(images, targets)
    content["model"] = network.state_dict()


if __name__ == "__main__":
    sys.exit(main())
