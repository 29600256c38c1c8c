#!/usr/bin/env python
"""Export a checkpoint: `python export/to_trt.py CKPT.pth [--out DIR]` writes a bundle that needs no PyTorch.
`python export/to_trt.py BUNDLE` builds the bundle's TensorRT engines anew where they do not fit this machine.

Exit status: 0 bundle and TensorRT engines complete, 3 bundle complete but no engine could be built here,
1 an engine or a precision loses too much (nothing is written), 2 wrong input.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from personsearch.core.commands import command_line, within
from personsearch.core.config import parse_size
from personsearch.core.errors import run_main


def main() -> int:
    return run_main(_main)


def _parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument(
        "checkpoint", help="a checkpoint of train/run.py, a published model, or a bundle whose engines are rebuilt"
    )
    parser.add_argument("--out", default="", help="bundle folder (default: out/NAME beside the working directory)")
    parser.add_argument("--name", default="", help="name in the manifest (default: the run's name)")
    parser.add_argument("--batch", type=within(int, 1, 1024), default=1, help="frames per inference call (default 1)")
    parser.add_argument(
        "--proposals", type=within(int, 0, 10_000), default=0, help="people per frame at most (default: as trained)"
    )
    parser.add_argument("--size", default="", metavar="HxW", help="canvas, for example 480x864 (default: as trained)")
    parser.add_argument(
        "--weights", choices=("fp16", "fp32"), default="fp16", help="storage of the weights in the files"
    )
    parser.add_argument("--with-weights", action="store_true", help="add weights.pth, a start for fine-tuning")
    parser.add_argument("--training-data", action="append", default=[], metavar="TEXT", help="source and licence")
    parser.add_argument("--licence", default="", help="licence of the weights")
    group = parser.add_argument_group("precisions and what they may cost")
    group.add_argument(
        "--precision", action="append", default=[], choices=("fp16", "int8"),
        help="a further graph besides fp32, repeatable (bf16 needs none: engines that have it run the fp32 graph so)",
    )  # fmt: skip
    group.add_argument(
        "--calibrate", default="", metavar="DIR|VIDEO",
        help="your own frames for int8's ranges: a video or a folder of images; a labelled data set (PRW's layout or "
        "people.json) also gives the similarity thresholds (default: synthetic street)",
    )  # fmt: skip
    group.add_argument("--calibrate-count", type=within(int, 1), default=300, help="frames taken from it (default 300)")
    group.add_argument(
        "--odds", default="", metavar="FILE.json",
        help="what similarities across cameras are worth, as in docs/measurements/odds-edge.json",
    )  # fmt: skip
    group.add_argument("--split", choices=("train", "test"), default="train", help="split for the thresholds")
    group.add_argument("--frames", default="", metavar="DIR|VIDEO", help="frames for parity (default: street)")
    group.add_argument("--data", default="", metavar="ROOT", help="data set for the gates' mAP (default: street)")
    group.add_argument(
        "--data-frames", type=within(int, 0), default=0,
        help="test images for the gates, and frames for thresholds (default 48; 24 test images where all is float32)",
    )  # fmt: skip
    group.add_argument(
        "--max-loss", type=within(float, 0, 100), default=0.5, help="mAP points that a precision may lose (default 0.5)"
    )
    group.add_argument("--accept-loss", action="store_true", help="write the bundle all the same")
    group = parser.add_argument_group("TensorRT")
    group.add_argument("--engine", choices=("auto", "no"), default="auto", help="build engines if a library loads")
    group.add_argument("--target", default="", help="TensorRT for RTX: GPU architecture, for example SM86")
    group.add_argument(
        "--workspace-mb", type=within(int, 1, 1 << 20), default=2048, help="builder's scratch memory (default 2048)"
    )
    group.add_argument("--timing-cache", default="", metavar="FILE", help="measured kernels, kept between builds")
    return parser


def _main() -> int:
    given = _parser().parse_args()
    if find_spec("torch"):
        print(f"{given.checkpoint}: loading the libraries", flush=True)
    from personsearch.export.engine_files import EngineOptions, rebuild_engines
    from personsearch.export.exporter import COMPLETE, ENGINE_SKIPPED, ExportOptions, export_checkpoint
    from personsearch.train.weights.published import is_published

    size = parse_size("--size", given.size) if given.size else None
    engine = EngineOptions(given.engine == "auto", given.target, given.workspace_mb, given.timing_cache)
    if Path(given.checkpoint).is_dir() and not is_published(given.checkpoint):
        return COMPLETE if rebuild_engines(Path(given.checkpoint), engine) else ENGINE_SKIPPED
    return export_checkpoint(
        ExportOptions(
            checkpoint=given.checkpoint, out=given.out, name=given.name, batch=given.batch, proposals=given.proposals,
            size=size,
            half_weights=given.weights == "fp16", precisions=tuple(given.precision), frames=given.frames,
            calibrate=given.calibrate, calibrate_count=given.calibrate_count, split=given.split, data=given.data,
            data_frames=given.data_frames, max_loss=given.max_loss, accept_loss=given.accept_loss,
            odds=given.odds, training_data=tuple(given.training_data), licence=given.licence,
            with_weights=given.with_weights, engine=engine,
        )
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
