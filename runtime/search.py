#!/usr/bin/env python
"""Search back: who of the people seen lately looks like this one? One of:

  runtime/search.py --cams cams.yaml --image FILE [--box x,y,w,h] [--camera yard] [--since 2h] [--until 10m]
  runtime/search.py --cams cams.yaml --person "Ada" [--cameras door yard] [--json] [--sheet FILE.png]

Lists visits, the most alike first, with camera, times and similarity; how seldom a visit of somebody else looks so
alike ("1 in ..."), and how many would, among all that were searched. Needs `history.path` in cams.yaml, or --history;
a running stream may go on writing meanwhile. --index searches what personsearch-index made of recorded videos instead;
a contact sheet cuts the people out of them. --since and --until take an age (90s, 30m, 2h, 3d) or a time
(2026-11-25T14:00, of this machine's zone unless it says another).
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from personsearch.core.commands import command_line
from personsearch.core.config import load_settings
from personsearch.core.errors import UserError, run_main
from personsearch.core.text import json_line, printable

if TYPE_CHECKING:
    from personsearch.core.bundle import Manifest
    from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
    from personsearch.runtime.history.lookback import Lookback
    from personsearch.runtime.history.searching import Found, Range
    from personsearch.runtime.settings import StreamSettings

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main() -> int:
    return run_main(_main)


def _parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--cams", default="", metavar="FILE", help="the stream's YAML file: history, gallery, bundle")
    parser.add_argument("--history", default="", metavar="DIR", help="folder of visits (default: `history.path`)")
    parser.add_argument("--index", default="", metavar="DIR", help="an index of recorded videos instead")
    parser.add_argument("--gallery", default="", help="gallery file (default: `gallery` in the file)")
    parser.add_argument("--bundle", default="", help="bundle folder (default: `bundle` in the file, else models/edge)")
    parser.add_argument("--box-key", default="", metavar="PLACE", help="file:PATH, env:NAME or credential:NAME")
    parser.add_argument("--image", default="", metavar="FILE", help="a picture of the person")
    parser.add_argument("--box", default="", metavar="x,y,w,h", help="where the person is in it, in pixels")
    parser.add_argument("--camera", default="", metavar="NAME", help="the camera of cams.yaml that took the picture")
    parser.add_argument("--person", default="", metavar="NAME", help="somebody who is enrolled, instead of a picture")
    parser.add_argument("--since", default="", metavar="WHEN", help="visits from then on: an age such as 2h, or a time")
    parser.add_argument("--until", default="", metavar="WHEN", help="visits until then")
    parser.add_argument("--cameras", nargs="+", default=[], metavar="NAME", help="only in these cameras")
    parser.add_argument("--limit", type=int, default=20, help="list at most so many visits (default 20)")
    parser.add_argument("--least", type=float, default=-1.0, metavar="S", help="list no visit of a lower similarity")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    parser.add_argument("--sheet", default="", metavar="FILE.png", help="also write a contact sheet")
    parser.add_argument("--engine", default="auto", help="inference engine")
    return parser


def _main() -> int:
    given = _parser().parse_args()
    from personsearch.core.bundle import read_manifest
    from personsearch.core.pictures import write_picture
    from personsearch.runtime.history.lookback import Lookback
    from personsearch.runtime.history.report import as_json, sheet, table
    from personsearch.runtime.history.searching import MOST_HITS
    from personsearch.runtime.settings import StreamSettings, default_bundle

    if bool(given.image) == bool(given.person):
        raise UserError("give either --image FILE or --person NAME: whom to search for")
    if not 1 <= given.limit <= MOST_HITS:
        raise UserError(f"--limit {given.limit}: expected 1 to {MOST_HITS}")
    settings = load_settings(given.cams, StreamSettings) if given.cams else None
    root = _root(given, settings)
    wanted = _range(given, settings)
    bundle = Path(given.bundle or (settings.bundle if settings else "") or default_bundle())
    manifest = read_manifest(bundle)
    gallery = _gallery(given, settings, manifest)
    lookback = Lookback(manifest, given.gallery or (settings.gallery if settings else ""), gallery)
    if given.index:
        lookback.check_index(root)
    query, picture = _query(given, bundle, manifest, gallery)
    _put_on_record(given, settings, gallery)
    names = gallery.names_by_id() if gallery else {}
    found = _search(root, query, lookback, given, wanted)
    if given.sheet:
        write_picture(given.sheet, sheet(found, picture))
    if given.json:
        print(json_line(as_json(found, names)))
    elif found.hits:
        print(printable(table(found, names), keep="\n"))
    total = found.searched.total()
    if not found.hits:
        why = "nobody was seen then and there" if not total else "nobody looks so alike"
        print(f"no visit found: {why} ({total} visits searched)", file=sys.stderr)
    elif given.sheet and not given.json:
        print(f"wrote {given.sheet}")
    return 0


def _put_on_record(given: argparse.Namespace, settings: StreamSettings | None, gallery: Gallery | None) -> None:
    """Searches are in the audit log, if there is one. Raises UserError if it cannot be written."""
    from personsearch.runtime.operations.place import audit_of

    path = given.gallery or (settings.gallery if settings else "")
    if not path:
        return
    person = gallery.person(given.person).id if given.person and gallery is not None else None
    audit_of(path, settings.audit.path if settings else "").add(
        "searched", person=person, picture=bool(given.image), cameras=given.cameras, since=given.since,
        until=given.until, archive=bool(given.index),
    )  # fmt: skip


def _root(given: argparse.Namespace, settings: StreamSettings | None) -> str:
    """The folder to search in. Raises UserError if none is given, or it is not there."""
    if given.index:
        if given.history:
            raise UserError("give either --history DIR or --index DIR: one place to search in")
        if not Path(given.index).is_dir():
            raise UserError(f"{given.index}: no such folder; personsearch-index --videos ... --out DIR makes one")
        return str(given.index)
    root: str = given.history or (settings.history.path if settings else "")
    if not root:
        raise UserError("no history: give --cams FILE with `history.path` in it, --history DIR or --index DIR")
    if not Path(root).is_dir():
        raise UserError(f"{root}: no such folder of visits; a stream with `history.path: {root}` writes one")
    return root


def _search(
    root: str, query: list[EnrolledView], lookback: Lookback, given: argparse.Namespace, wanted: Range
) -> Found:
    if given.index:
        found = lookback.find_in_index(root, query, wanted, given.limit, given.least, pictures=bool(given.sheet))
    else:
        found = lookback.find(root, query, wanted, given.limit, given.least)
    if why := lookback.left_out(root, found):
        print(f"warning: {why}; they are left out", file=sys.stderr)
    return found


def _range(given: argparse.Namespace, settings: StreamSettings | None) -> Range:
    from personsearch.runtime.history.searching import Range

    now = time.time()
    since = _moment("--since", given.since, now) if given.since else -np.inf
    until = _moment("--until", given.until, now) if given.until else np.inf
    if since > until:
        raise UserError(f"--since {given.since} is later than --until {given.until}")
    cameras = [name for text in given.cameras for name in text.split(",") if name]
    known = {camera.name for camera in settings.cameras} if settings else set(cameras)
    strange = sorted(set(cameras) - known)
    if strange and not given.index:
        raise UserError(f"--cameras: '{strange[0]}' is no camera of {given.cams}; it has {', '.join(sorted(known))}")
    return Range(since, until, frozenset(cameras))


def _moment(option: str, text: str, now: float) -> float:
    """An age or a time -> unix seconds."""
    age = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]+)?)([smhd])", text)
    if age:
        return now - float(age[1]) * UNITS[age[2]]
    try:
        return datetime.datetime.fromisoformat(re.sub("Z$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UserError(f"{option} {text}: expected an age such as 2h, or a time such as 2026-11-25T14:00") from None


def _gallery(given: argparse.Namespace, settings: StreamSettings | None, manifest: Manifest) -> Gallery | None:
    """None where nobody is enrolled yet: a picture can be searched for without."""
    from personsearch.runtime.decisions.gallery_file import load_gallery

    path = given.gallery or (settings.gallery if settings else "")
    if not path:
        if given.person:
            raise UserError("--person needs a gallery: give --gallery FILE, or --cams FILE with `gallery:` in it")
        return None
    if not given.person and not given.gallery and not Path(path).exists():
        return None
    key = given.box_key or (settings.gallery_key if settings else "")
    return load_gallery(path, manifest.model_hash, manifest.dimensions, key)


def _query(
    given: argparse.Namespace, bundle: Path, manifest: Manifest, gallery: Gallery | None
) -> tuple[list[EnrolledView], np.ndarray | None]:
    """Views of the one who is searched for, and a picture of him for the sheet."""
    from personsearch.runtime.decisions.gallery import PICTURE, EnrolledView
    from personsearch.runtime.decisions.names import person_name

    if gallery is not None and given.person:
        name = person_name(given.person)
        if not gallery.views_of(name):
            raise UserError(f"'{name}' is not enrolled; personsearch-enroll --list shows who is")
        return gallery.views_of(name), None
    from personsearch.core.engines.searcher import BundleSearcher
    from personsearch.core.pictures import read_picture
    from personsearch.runtime.decisions.enrolment import check_quality, from_picture, parse_box

    box = parse_box(given.box)
    picture = read_picture(given.image)  # what cannot be read is said before the model is loaded
    seen = from_picture(BundleSearcher(bundle, given.engine), given.image, box)
    for warning in check_quality([seen], force=True):
        print(f"warning: {warning}", file=sys.stderr)
    if box is not None:
        x1, y1, x2, y2 = np.maximum(box.round().astype(int), 0)
        picture = picture[y1:y2, x1:x2]
    return [EnrolledView(seen.embedding, given.camera or PICTURE, min(1.0, seen.quality.value))], picture


if __name__ == "__main__":
    sys.exit(main())
