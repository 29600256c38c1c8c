#!/usr/bin/env python
"""Adapt a bundle to your own cameras: `python train/adapt.py --video FILE_OR_URL ... [--bundle models/edge]`.

Finds and follows people in unlabelled footage, takes ProtoNorm's statistics from them, fine-tunes the bundle's weights
on them, averages these with the old ones (so that other people are not forgotten), reports figures before and after on
a held-out part of the footage, and names the best. `--steps 0` takes the statistics only, within a minute or two. A
large re-identification network as --teacher (an .xml or .onnx file) makes it better, a YOLOX --detector finds more
people. --across also links people over the cameras, and judges by finding them in another camera. Ctrl-C is safe: the
same command goes on where it stopped.
The footage's frames stay in --out: delete the folder when you are done.
"""

from __future__ import annotations

import re
import sys

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main
from personsearch.core.resources import here_or_shipped


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--video", required=True, nargs="+", help="video files, webcam numbers or stream URLs")
    parser.add_argument("--bundle", type=here_or_shipped, default="models/edge", help="start; needs its weights.pth")
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
    parser.add_argument("--across", action="store_true", help="link people over cameras: each source is a camera")
    parser.add_argument(
        "--travel", nargs="+", default=[], metavar="A:B:SECONDS-SECONDS",
        help="with --across: how long the way between sources A and B takes (1 = the first, all begin at one moment)",
    )  # fmt: skip
    arguments = parser.parse_args()
    if not 0 < arguments.share <= 1:
        raise UserError("--share must be above 0 and at most 1")
    if not 0.05 <= arguments.held_out <= 0.9:
        raise UserError("--held-out must be between 0.05 and 0.9")
    if min(arguments.every, arguments.batch) < 1 or min(arguments.frames, arguments.steps) < 0 or arguments.rate <= 0:
        raise UserError("--every and --batch must be at least 1, --rate positive, --steps and --frames not negative")
    if arguments.frames == 0 and any("://" in v and not v.startswith("file:") for v in arguments.video):
        raise UserError("a stream has no end: give --frames N")
    if arguments.across and len(arguments.video) < 2:
        raise UserError("--across needs at least two sources in --video, got one")
    if arguments.travel and not arguments.across:
        raise UserError("--travel says when people may be linked over cameras: give --across as well")
    travel = dict(travel_time(text, len(arguments.video)) for text in arguments.travel)
    from personsearch.train.teaching.adaptation import AdaptOptions, adapt

    return adapt(
        AdaptOptions(
            videos=tuple(arguments.video), bundle=str(arguments.bundle), out=arguments.out, detector=arguments.detector,
            teacher=arguments.teacher, every=arguments.every, max_frames=arguments.frames,
            held_out=arguments.held_out, steps=arguments.steps, batch=arguments.batch, rate=arguments.rate,
            share=arguments.share, across=arguments.across, travel=travel,
        )
    )  # fmt: skip


def travel_time(text: str, sources: int) -> tuple[tuple[int, int], tuple[float, float]]:
    """`1:2:5-30` -> ((1, 2), (5.0, 30.0)). Raises UserError for anything else."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if found:
        one, other, least, most = int(found[1]), int(found[2]), float(found[3]), float(found[4])
        if one != other and min(one, other) >= 1 and max(one, other) <= sources and least <= most:
            return (one, other), (least, most)
    raise UserError(f"--travel {text}: expected A:B:LEAST-MOST, as 1:2:5-30, with two of the {sources} sources")


if __name__ == "__main__":
    sys.exit(main())
