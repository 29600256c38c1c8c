#!/usr/bin/env python
"""Turn a released OIMNet++ checkpoint into one of ours: `python train/official.py FILE.pth --out CKPT.pth`.

Every weight is accounted for: a missing, unknown or misshapen one is an error. The result can be evaluated, exported,
and used as `init`; with --conv5-protonorm also OIMNet+++, whose weights have the same names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.core.commands import command_line
from personsearch.core.errors import CheckpointError, run_main
from personsearch.core.resources import shipped

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = shipped("configs/official.yaml")
# Where each part of the released network lives in ours. Longer prefixes win.
PARTS = {
    "backbone.": "stem.",
    "rpn.head.conv.": "rpn.conv.",
    "rpn.head.conv.0.0.": "rpn.conv.",  # as newer torchvision names it
    "rpn.head.cls_logits.": "rpn.objectness.",
    "rpn.head.bbox_pred.": "rpn.deltas.",
    "roi_heads.reid_head.": "head.",
    "roi_heads.box_predictor.bbox_cls.": "person.",
    "roi_heads.box_predictor.bbox_pred.": "box.",
    "roi_heads.embedding_head.projectors.feat_res5.0.": "projection.",
    "roi_heads.embedding_head.projectors.feat_res5.1.": "norm.",
}
# A copy of conv5 and a predictor that the released code builds, saves and never runs.
UNUSED = (
    "roi_heads.box_head.layer4.",
    "roi_heads.faster_rcnn_predictor.cls_score.",
    "roi_heads.faster_rcnn_predictor.bbox_pred.",
)
TABLES = {"roi_heads.reid_loss.lut": "lut", "roi_heads.reid_loss.cq": "queue"}


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("checkpoint", help="a released checkpoint")
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument("--conv5-protonorm", action="store_true", help="the checkpoint is OIMNet+++")
    arguments = parser.parse_args()
    from personsearch.train.weights.checkpoint import save_checkpoint

    content = convert(arguments.checkpoint, arguments.conv5_protonorm)
    save_checkpoint(arguments.out, content)
    identity = content["config"]["model"]["identity"]
    print(f"{arguments.out}: {len(content['model'])} weights, {len(content['identity']['lut'])} identities, "
          f"queue {identity['queue']}, norm {identity['norm']}")  # fmt: skip
    return 0


def convert(path: str | Path, conv5_protonorm: bool = False) -> dict[str, Any]:
    """The content of our checkpoint. Raises CheckpointError with the keys that do not fit."""
    import torch

    from personsearch.core.config import load_settings
    from personsearch.train.model.network import PersonSearch
    from personsearch.train.settings import TrainSettings
    from personsearch.train.state import fill, read_torch, state_of

    state = state_of(read_torch(path, "a checkpoint of the released OIMNet++ code"), path)
    ours, tables = rename(state, path)
    settings = load_settings(CONFIG, TrainSettings)
    norm = "protonorm" if "norm.running_mean" in ours else "none"
    identity = settings.model.identity.model_copy(update={"norm": norm, "queue": len(tables["queue"])})
    model = settings.model.model_copy(update={"identity": identity, "conv5_protonorm": conv5_protonorm})
    network = PersonSearch(model)
    fill(network, ours, path)
    head = torch.zeros((), dtype=torch.long)  # the released code does not save where the queue's head was
    return {
        "config": settings.model_copy(update={"model": model}).model_dump(mode="json"),
        "model": network.state_dict(),
        "identity": {"lut": tables["lut"].float(), "queue": tables["queue"].float(), "queue_head": head},
    }


def rename(state: Mapping[str, Tensor], path: str | Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our network's state, and look-up table and queue. Every key is used, known to be unused, or an error."""
    ours: dict[str, Tensor] = {}
    tables: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        prefix = max((p for p in PARTS if key.startswith(p)), key=len, default="")
        if key in TABLES:
            tables[TABLES[key]] = value
        elif prefix:
            ours[PARTS[prefix] + key.removeprefix(prefix)] = value
        elif not key.startswith(UNUSED):
            unknown.append(key)
    if unknown or len(tables) != len(TABLES):
        missing = [key for key, name in TABLES.items() if name not in tables]
        raise CheckpointError(
            f"{path}: expected the layout of the released OIMNet++ code, but {len(unknown)} keys are unknown "
            f"{sorted(unknown)[:3]} and {missing} are missing"
        )
    for name in ("box.weight", "box.bias"):  # rows 0-3 are the boxes of the background class, which nobody reads
        if name in ours:
            if len(ours[name]) != 8:
                raise CheckpointError(
                    f"{path}: expected 8 rows (two classes) in the box predictor, got {len(ours[name])}"
                )
            ours[name] = ours[name][4:]
    return ours, tables


if __name__ == "__main__":
    sys.exit(main())
