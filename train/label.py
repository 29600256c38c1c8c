#!/usr/bin/env python
"""Label unlabelled video: `python train/label.py --video FILE_OR_URL ... --detector yolox.onnx --out DIR [--tracks]`.

Writes a data set in our JSON format that distillation can use. The detector is a YOLOX-layout ONNX file; it runs on
frames enlarged to --width, where it is better than at deployment size. With --tracks people get an identity for as
long as they can be followed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from personsearch.core.commands import command_line, within
from personsearch.core.errors import UserError, run_main
from personsearch.core.resources import here_or_shipped


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--video", required=True, nargs="+", help="video files, webcam numbers or stream URLs")
    parser.add_argument("--detector", required=True, help="YOLOX ONNX file, class 0 = person")
    parser.add_argument("--out", required=True, help="a new folder for the data set")
    parser.add_argument("--every", type=int, default=4, help="use every n-th frame")
    parser.add_argument(
        "--frames", type=within(int, 0), default=0, help="stop a video after so many used frames (0 = its end)"
    )
    parser.add_argument("--width", type=int, default=960, help="detector input width, a multiple of 32")
    parser.add_argument("--score", type=within(float, 0, 1), default=0.3, help="keep boxes with at least this score")
    parser.add_argument("--tracks", action="store_true", help="follow people to give them identities")
    parser.add_argument("--bundle", type=here_or_shipped, default="models/edge", help="embeds people for --tracks")
    arguments = parser.parse_args()
    if arguments.every < 1 or arguments.width < 32 or arguments.width % 32:
        raise UserError("--every must be at least 1 and --width a multiple of 32")
    from personsearch.core.engines.searcher import BundleSearcher
    from personsearch.train.teaching.detector_teacher import DetectorTeacher
    from personsearch.train.teaching.footage import label_footage

    out = Path(arguments.out)
    if (out / "people.json").exists():
        raise UserError(f"{out}: already holds a data set; choose a new folder")
    detector = DetectorTeacher(arguments.detector, arguments.width, arguments.score)
    embed = BundleSearcher(arguments.bundle).embed if arguments.tracks else None
    made = label_footage(arguments.video, out, detector, embed, every=arguments.every, max_frames=arguments.frames)
    print(f"{out}: {len(made.frames)} frames, {made.people} people, {made.identities} identities")
    return 0


if __name__ == "__main__":
    sys.exit(main())
