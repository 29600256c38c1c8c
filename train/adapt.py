#!/usr/bin/env python
"""Adapt a bundle to your own cameras: `python train/adapt.py --video FILE_OR_URL ... [--bundle models/edge]`.

Finds and follows people in unlabelled footage, takes ProtoNorm's statistics from them, fine-tunes the bundle's weights
on them, averages these with the old ones (so that other people are not forgotten), reports figures before and after on
a held-out part of the footage, and names the best. `--steps 0` takes the statistics only, within a minute or two. A
large re-identification network as --teacher (an .xml or .onnx file) makes it better, a YOLOX --detector finds more
people. Ctrl-C is safe: the same command goes on where it stopped.
The footage's frames stay in --out: delete the folder when you are done.
"""

from __future__ import annotations

import argparse
import sys

from personsearch.core.errors import UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", required=True, nargs="+", help="video files, webcam numbers or stream URLs")
    parser.add_argument("--bundle", default="models/edge", help="what to start from; needs its weights.pth")
    parser.add_argument("--out", default="runs/adapt", help="folder of labels, checkpoints and the report")
    parser.add_argument("--detector", default="", help="YOLOX ONNX file (default: the bundle's own detections)")
    parser.add_argument("--teacher", default="", help="re-identification network to learn from (default: tracks only)")
    parser.add_argument("--every", type=int, default=4, help="use every n-th frame")
    parser.add_argument("--frames", type=int, default=0, help="used frames of each source at most; needed for streams")
    parser.add_argument("--held-out", type=float, default=0.25, help="share of each source that only measures")
    parser.add_argument("--steps", type=int, default=300, help="training steps (0: statistics only)")
    parser.add_argument("--batch", type=int, default=8, help="frames per step")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    parser.add_argument("--share", type=float, default=0.5, help="of the new weights, averaged with the old ones")
    arguments = parser.parse_args()
    if not 0 < arguments.share <= 1:
        raise UserError("--share must be above 0 and at most 1")
    if not 0.05 <= arguments.held_out <= 0.9:
        raise UserError("--held-out must be between 0.05 and 0.9")
    if min(arguments.every, arguments.batch) < 1 or min(arguments.frames, arguments.steps) < 0 or arguments.rate <= 0:
        raise UserError("--every and --batch must be at least 1, --rate positive, --steps and --frames not negative")
    if arguments.frames == 0 and any("://" in v and not v.startswith("file:") for v in arguments.video):
        raise UserError("a stream has no end: give --frames N")
    from personsearch.train.adaptation import AdaptOptions, adapt

    return adapt(
        AdaptOptions(
            videos=tuple(arguments.video), bundle=arguments.bundle, out=arguments.out, detector=arguments.detector,
            teacher=arguments.teacher, every=arguments.every, max_frames=arguments.frames,
            held_out=arguments.held_out, steps=arguments.steps, batch=arguments.batch, rate=arguments.rate,
            share=arguments.share,
        )
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
