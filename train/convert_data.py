#!/usr/bin/env python
"""Write people.json from another format: `python train/convert_data.py --format coco --root FILE.json --out DIR`.

--format coco: a COCO file whose person annotations carry the identity in `--identity-key`; images may carry `camera`
and `split`. --format prw, cuhk: the benchmark's folder. --format street: frames are drawn into DIR/frames.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main

MIN_APPEARANCES = 2  # an identity is a query only if it can be found somewhere else


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--format", choices=("coco", "prw", "cuhk", "street"), required=True)
    parser.add_argument("--root", default="", help="the COCO file, or the data set's folder")
    parser.add_argument("--images", default="", help="coco: folder of the images (default: the file's own folder)")
    parser.add_argument("--identity-key", default="identity", help="coco: key of the identity number in an annotation")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="coco: split of images without one")
    parser.add_argument("--out", required=True, help="a folder without people.json")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    if (out / "people.json").exists():
        raise UserError(f"{out / 'people.json'} exists; choose another folder with --out")
    from personsearch.train.settings import SourceSettings

    if arguments.format == "coco":
        convert_coco(arguments.root, arguments.images, out, arguments.identity_key, arguments.split)
    else:
        convert_splits(SourceSettings(format=arguments.format, root=arguments.root), out)
    from personsearch.train.data.json_data import read_people

    content = read_people(out)
    people = sum(len(frame.people) for frame in content.images)
    print(f"{out / 'people.json'}: {len(content.images)} images, {people} people, {len(content.queries)} queries")
    return 0


def convert_splits(source: Any, out: Path, shrink: int = 1) -> None:
    """Both splits of a source. The street's frames are drawn and written, `shrink` times smaller; other frames stay."""
    import cv2

    from personsearch.core.pictures import write_picture
    from personsearch.train.data.json_data import Frame, Person, QueryEntry, save_json
    from personsearch.train.data.samples import load_split, read_image
    from personsearch.train.data.street_data import StreetImages

    frames, queries = [], []
    for split in ("train", "test"):
        data = load_split(source, split)
        names = {}
        for truth in data.images:
            if StreetImages.owns(truth.path):
                path = out / "frames" / f"{split}_{truth.name}"
                image = read_image(truth)
                if shrink > 1:
                    size = (image.shape[1] // shrink, image.shape[0] // shrink)
                    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                write_picture(path, image)
            else:
                path = Path(truth.path)
            names[truth.name] = os.path.relpath(path, out)
            people = tuple(
                Person(box=_xywh(box / shrink), identity=None if identity < 0 else int(identity))
                for box, identity in zip(truth.boxes, truth.identities, strict=True)
            )
            frames.append(Frame(file=names[truth.name], camera=truth.camera, split=split, people=people))  # type: ignore[arg-type]
        queries += [
            QueryEntry(file=names[q.image], box=_xywh(q.box / shrink), identity=q.identity) for q in data.queries
        ]  # fmt: skip
    save_json(out, frames, queries)


def _xywh(box: Iterable[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(v), 2) for v in box)
    return x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)


def convert_coco(file: str, images: str, out: Path, identity_key: str, split: str) -> None:
    """People are the annotations of the category `person`, or of the only category. Crowd regions are left out.

    In the test split the largest box of every identity seen in at least two images becomes a query.
    """
    from personsearch.train.data.coco import read_coco
    from personsearch.train.data.json_data import QueryEntry, save_json

    path = Path(file)
    folder = Path(images) if images else path.parent
    frames = [
        frame.model_copy(update={"file": os.path.relpath(folder / frame.file, out)})
        for frame in read_coco(path, identity_key, split)
    ]
    places: dict[int, list[QueryEntry]] = {}
    for frame in frames:
        for person in frame.people if frame.split == "test" else ():
            if person.identity is not None and min(person.box[2:]) > 0:
                query = QueryEntry(file=frame.file, box=person.box, identity=person.identity)
                places.setdefault(person.identity, []).append(query)
    queries = [
        max(found, key=lambda q: q.box[2] * q.box[3])
        for _, found in sorted(places.items())
        if len({q.file for q in found}) >= MIN_APPEARANCES
    ]
    save_json(out, frames, queries)


if __name__ == "__main__":
    sys.exit(main())
