#!/usr/bin/env python
"""Average two checkpoints of one network: `python train/blend.py START.pth TRAINED.pth --out BLEND.pth`.

Fine-tuning on a few hundred people forgets part of what the initial weights knew of many thousands. Weights between the
start and the end of a run keep both (weight-space ensembling, arXiv 2109.01903). train/run.py and train/adapt.py keep
the start of a fine-tuning as start.pth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from personsearch.core.errors import CheckpointError, UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="checkpoint before training")
    parser.add_argument("trained", type=Path, help="checkpoint after training")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights, 0 to 1 (default 0.5)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pth")
    given = parser.parse_args()
    if not 0 <= given.share <= 1:
        raise UserError(f"--share: expected a number from 0 to 1, got {given.share}")
    from personsearch.train.checkpoint import save_checkpoint

    save_checkpoint(given.out, blend(given.start, given.trained, given.share))
    print(f"{given.out}: {given.share:g} of {given.trained} and {1 - given.share:g} of {given.start}")
    return 0


def blend(start: Path, trained: Path, share: float) -> dict[str, Any]:
    """Configuration and weights of a checkpoint: share * trained + (1 - share) * start, running statistics included.

    Raises CheckpointError if the two are not of one network.
    """
    from personsearch.train.checkpoint import load_checkpoint

    first, last = load_checkpoint(start), load_checkpoint(trained)
    before, after = first["model"], last["model"]
    other = [k for k in before.keys() | after.keys() if k not in before or k not in after
             or before[k].shape != after[k].shape]  # fmt: skip
    if other:
        raise CheckpointError(f"{start} and {trained} are not of one network: '{min(other)}' differs")
    mixed = {k: before[k].float().lerp(v.float(), share) if v.is_floating_point() else v for k, v in after.items()}
    return {"config": last["config"], "model": mixed}


if __name__ == "__main__":
    sys.exit(main())
