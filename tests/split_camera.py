#!/usr/bin/env python
"""One camera of a data set in PRW's layout as a place of its own: the start as a video, the rest as a test set.

    python tests/split_camera.py --data PEOPLE_MOT --camera 1 --start 0.7 --out DIR

DIR is a data set in PRW's layout whose test split is the rest of the camera's frames, with three queries of each person
who is seen there six times or more (early, in the middle, late). DIR/start.avi is what `train/adapt.py` would be given
before anybody has labelled anything. `--start 0` tests on all frames and makes no video.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from personsearch.core.errors import UserError, run_main
from personsearch.core.records import ImageTruth
from personsearch.train.data.prw import load_prw
from personsearch.train.data.samples import read_image
from personsearch.train.teaching.footage import QUERIES

FPS = 15
LEAST_SIGHTINGS = 2 * len(QUERIES)


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set in PRW's layout")
    parser.add_argument("--camera", type=int, required=True)
    parser.add_argument("--start", type=float, default=0.7, help="share of the frames that becomes the video")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    given = parser.parse_args()
    if not 0 <= given.start < 1:
        raise UserError(f"--start: expected a share from 0 to below 1, got {given.start}")
    if given.out.exists():
        raise UserError(f"{given.out}: exists already; choose a new folder")
    truths = [t for split in ("train", "test") for t in load_prw(given.data, split).images if t.camera == given.camera]
    if not truths:
        raise UserError(f"{given.data}: has no frame of camera {given.camera}")
    border = int(len(truths) * given.start)
    given.out.mkdir(parents=True)
    for name in ("frames", "annotations"):
        os.symlink((given.data / name).resolve(), given.out / name)
    for split, part in (("train", truths[:border]), ("test", truths[border:])):
        names = np.empty((len(part), 1), object)
        names[:, 0] = [Path(truth.name).stem for truth in part]
        savemat(given.out / f"frame_{split}.mat", {f"img_index_{split}": names})
    lines = queries(truths[border:])
    (given.out / "query_info.txt").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    if border:
        write_video(given.out / "start.avi", truths[:border])
    print(f"{given.out}: {border} frames as a video, {len(truths) - border} to test on, {len(lines)} queries")
    return 0


def queries(truths: Sequence[ImageTruth]) -> list[str]:
    """Lines of query_info.txt: identity, x, y, width, height, frame."""
    seen: dict[int, list[tuple[str, np.ndarray]]] = {}
    for truth in truths:
        for box, identity in zip(truth.boxes, truth.identities, strict=True):
            if identity >= 0:
                seen.setdefault(int(identity), []).append((Path(truth.name).stem, box))
    lines = []
    for identity, places in sorted(seen.items()):
        for share in QUERIES if len(places) >= LEAST_SIGHTINGS else ():
            name, (x1, y1, x2, y2) = places[int(share * len(places))]
            lines.append(f"{identity} {x1:.1f} {y1:.1f} {x2 - x1:.1f} {y2 - y1:.1f} {name}")
    return lines


def write_video(path: Path, truths: Sequence[ImageTruth], fps: float = FPS) -> None:
    height, width = read_image(truths[0]).shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    for truth in truths:
        writer.write(read_image(truth))
    writer.release()


if __name__ == "__main__":
    sys.exit(main())
