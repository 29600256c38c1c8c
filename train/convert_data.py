#!/usr/bin/env python
"""Write people.json from another format: `python train/convert_data.py --format coco --root FILE.json --out DIR`.

--format coco: a COCO file whose person annotations carry the identity in `--identity-key`; images may carry `camera`
and `split`. --format prw, cuhk: the benchmark's folder. --format street: frames are drawn into DIR/frames.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from personsearch.core.errors import DataError, UserError, run_main

MIN_APPEARANCES = 2  # an identity is a query only if it can be found somewhere else


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    from personsearch.train.json_data import read_people

    content = read_people(out)
    people = sum(len(frame.people) for frame in content.images)
    print(f"{out / 'people.json'}: {len(content.images)} images, {people} people, {len(content.queries)} queries")
    return 0


def convert_splits(source: Any, out: Path, shrink: int = 1) -> None:
    """Both splits of a source. The street's frames are drawn and written, `shrink` times smaller; other frames stay."""
    import cv2

    from personsearch.train.json_data import Frame, Person, QueryEntry, save_json
    from personsearch.train.samples import load_split, read_image
    from personsearch.train.street_data import StreetImages

    frames, queries = [], []
    for split in ("train", "test"):
        data = load_split(source, split)
        names = {}
        for truth in data.images:
            if StreetImages.owns(truth.path):
                path = out / "frames" / f"{split}_{truth.name}"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = read_image(truth)
                if shrink > 1:
                    size = (image.shape[1] // shrink, image.shape[0] // shrink)
                    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
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
    from personsearch.train.json_data import Frame, Person, QueryEntry, save_json

    path = Path(file)
    try:
        content = json.loads(path.read_bytes())
        pictures = {entry["id"]: entry for entry in content["images"]}
        annotations, categories = content["annotations"], content.get("categories", [])
    except OSError:
        raise DataError(f"{path}: not found; --root must name a COCO annotation file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a COCO annotation file with images and annotations ({error})") from None
    wanted = {c["id"] for c in categories if c.get("name") == "person"} or {c["id"] for c in categories}
    if len(wanted) > 1:
        raise DataError(f"{path}: has {len(wanted)} categories, but none is called person")
    people: dict[Any, list[Person]] = {}
    for number, entry in enumerate(annotations):
        if entry.get("iscrowd") or (wanted and entry.get("category_id") not in wanted):
            continue
        identity = entry.get(identity_key, (entry.get("attributes") or {}).get(identity_key))
        try:
            person = Person(box=entry["bbox"], identity=identity)
            pictures[entry["image_id"]]
        except (KeyError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: annotations.{number}: no usable bbox, image_id or identity ({reason})") from None
        people.setdefault(entry["image_id"], []).append(person)
    folder = Path(images) if images else path.parent
    frames = [
        Frame(
            file=os.path.relpath(folder / entry["file_name"], out),
            camera=entry.get("camera", 0),
            split=entry.get("split", split),
            people=tuple(people.get(key, ())),
        )
        for key, entry in pictures.items()
    ]
    places: dict[int, list[QueryEntry]] = {}
    for frame in frames:
        for person in frame.people if frame.split == "test" else ():
            if person.identity is not None:
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
