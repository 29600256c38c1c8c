#!/usr/bin/env python
"""Enrol, list and remove people.

  runtime/enroll.py --gallery people.gallery --name "Ada" --image ada.jpg [--box x,y,w,h] [--bundle B]
  runtime/enroll.py --gallery people.gallery --list
  runtime/enroll.py --gallery people.gallery --remove "Ada"

Several views of one person may be added one after the other. No picture is kept, only its embedding.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from personsearch.core.errors import DataError, GalleryError, UserError, run_main

SAME_PERSON = 0.5  # detections that overlap the given box at least so much vouch for it


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", required=True, help="gallery file; made if it does not exist")
    parser.add_argument("--bundle", default="", help="bundle folder (default: models/edge)")
    parser.add_argument("--name", default="", help="whom the picture shows")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; repeatable")
    parser.add_argument("--box", default="", metavar="x,y,w,h", help="where the person is, in pixels")
    parser.add_argument("--list", action="store_true", help="print names and numbers of views")
    parser.add_argument("--remove", default="", metavar="NAME", help="forget a person")
    parser.add_argument("--engine", default="auto", help="inference engine")
    arguments = parser.parse_args()
    from personsearch.core.bundle import read_manifest
    from personsearch.runtime.gallery import enrol, load_gallery, locked
    from personsearch.runtime.settings import default_bundle

    bundle, path = Path(arguments.bundle or default_bundle()), Path(arguments.gallery)
    wanted = [bool(arguments.name or arguments.image), arguments.list, bool(arguments.remove)]
    if sum(wanted) != 1:
        raise UserError("give either --name with --image, or --list, or --remove NAME")
    manifest = read_manifest(bundle)
    if arguments.list:
        gallery = load_gallery(path, manifest.model_hash, manifest.dimensions)
        for name, views in sorted(Counter(gallery.names).items()):
            print(f"{name}\t{views} view{'s' if views > 1 else ''}")
        return 0
    if arguments.remove:
        with locked(path):
            gallery = load_gallery(path, manifest.model_hash, manifest.dimensions)
            if not gallery.remove(arguments.remove):
                raise GalleryError(f"{path}: '{arguments.remove}' is not enrolled; --list shows who is")
            gallery.save(path)
        print(f"removed {arguments.remove}")
        return 0
    if not arguments.name or not arguments.image:
        raise UserError("enrolling needs both --name and --image")
    if arguments.box and len(arguments.image) > 1:
        raise UserError("--box belongs to one picture; enrol several pictures with boxes one by one")
    from personsearch.core.engines import BundleSearcher

    searcher = BundleSearcher(bundle, arguments.engine)
    rows = [embed_person(searcher, Path(file), _parse_box(arguments.box)) for file in arguments.image]
    gallery = enrol(path, manifest.model_hash, manifest.dimensions, arguments.name, rows)
    print(f"enrolled {arguments.name} with {gallery.names.count(arguments.name.strip())} view(s) in {path}")
    return 0


def _parse_box(text: str) -> np.ndarray | None:
    if not text:
        return None
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--box {text}: expected four numbers x,y,w,h in pixels") from None
    if w <= 0 or h <= 0 or not np.isfinite([x, y, w, h]).all():
        raise UserError(f"--box {text}: width and height must be positive")
    return np.array([x, y, x + w, y + h], np.float32)


def embed_person(searcher, path: Path, box: np.ndarray | None) -> np.ndarray:  # type: ignore[no-untyped-def]
    """(D,) embedding of the person at `box`, or of the only person in the picture.

    Raises DataError for an unreadable picture, a box outside it, nobody, or several people.
    """
    import cv2

    from personsearch.core.boxes import clip

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: cannot be read as an image (missing or damaged)")
    h, w = image.shape[:2]
    if box is None:
        (found,) = searcher.detect([image])
        listing = "".join(
            f"\n         --box {x1:.0f},{y1:.0f},{x2 - x1:.0f},{y2 - y1:.0f}   score {score:.2f}"
            for (x1, y1, x2, y2), score in zip(found.boxes, found.scores, strict=True)
        )
        if len(found) == 0:
            raise DataError(f"{path}: no person found; say where the person is with --box x,y,w,h ({w}x{h} pixels)")
        if len(found) > 1:
            raise DataError(f"{path}: {len(found)} people found; choose one of{listing}")
        box = found.boxes[0]
    inside = clip(box[None], h, w)[0]
    if (inside[2:] - inside[:2] < 2).any():
        raise DataError(f"{path}: the box lies outside the picture, which has {w}x{h} pixels")
    return searcher.embed(image, inside[None])[0]


if __name__ == "__main__":
    sys.exit(main())
