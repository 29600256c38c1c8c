#!/usr/bin/env python
"""Enrol people and keep the gallery. One of:

  runtime/enroll.py --gallery people.gallery --name "Ada" --image ada.jpg [--box x,y,w,h] [--camera yard]
  runtime/enroll.py --gallery people.gallery --name "Ada" --video FILE --box x,y,w,h [--at SECONDS] [--camera yard]
  runtime/enroll.py --gallery people.gallery --name "Ada" --track yard/17 [--connect tcp://127.0.0.1:5557]
  runtime/enroll.py --gallery people.gallery --name "Ada" [--label staff] [--note TEXT] [--expires 2027-01-31]
  runtime/enroll.py --gallery people.gallery --not "Ada" --track yard/23        (or --image, --video: not her)
  runtime/enroll.py --gallery people.gallery --list | --show "Ada" [--json]
  runtime/enroll.py --gallery people.gallery --rename "Ada" "Ada Lovelace" | --merge "Ada" "A. L." | --unmerge "A. L."
  runtime/enroll.py --gallery people.gallery --remove "Ada" | --undo          (personsearch-forget erases for good)
  runtime/enroll.py --gallery people.gallery --backup FILE | --restore FILE | --export FILE | --import FILE
  runtime/enroll.py --gallery people.gallery --encrypt | --decrypt  --box-key file:box.key
  runtime/enroll.py --gallery people.gallery --bundle NEW --re-embed new.gallery

Several views of one person, from different sides, are better than one; they may be added one after the other. A video
is followed for up to 20 s and gives its best views; a track gives those that a running stream keeps of it. No picture
is kept unless --keep-crops says so, only embeddings, with the camera they come from. See docs/gallery.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from personsearch.core.commands import command_line
from personsearch.core.errors import GalleryError, UserError, run_main
from personsearch.core.text import printable

if TYPE_CHECKING:
    from personsearch.core.bundle import Manifest
    from personsearch.runtime.decisions.gallery import EnrolledView
    from personsearch.runtime.operations.place import Place

TASKS = ("list", "show", "rename", "merge", "unmerge", "remove", "undo", "backup", "restore", "export", "import_",
         "encrypt", "decrypt", "re_embed")  # fmt: skip


def main() -> int:
    return run_main(_main)


def _parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--gallery", required=True, help="gallery file; made if it does not exist")
    parser.add_argument("--bundle", default="", help="bundle folder (default: models/edge)")
    parser.add_argument("--name", default="", help="who it is")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; repeatable")
    parser.add_argument("--video", default="", metavar="FILE", help="a video that shows the person at --box")
    parser.add_argument("--track", default="", metavar="CAMERA/NUMBER", help="a track of a running stream")
    parser.add_argument("--box", default="", metavar="x,y,w,h", help="where the person is, in pixels")
    parser.add_argument("--at", type=float, default=0.0, metavar="SECONDS", help="when in the video (default 0)")
    parser.add_argument("--camera", default="", metavar="NAME", help="the camera of cams.yaml that took it, if one did")
    parser.add_argument("--force", action="store_true", help="enrol pictures that are too poor")
    parser.add_argument("--keep-crops", action="store_true", help="keep the pictures, for --re-embed later")
    parser.add_argument("--label", action="append", default=[], help="with --name: such as staff; repeatable")
    parser.add_argument("--note", default=None, metavar="TEXT", help="with --name: for people to read")
    parser.add_argument("--expires", default=None, metavar="DATE", help="with --name: last day to look for the person")
    parser.add_argument("--not", dest="not_", default="", metavar="NAME", help="the person shown is not this one")
    parser.add_argument("--connect", default="tcp://127.0.0.1:5557", help="the stream's replay endpoint, for --track")
    parser.add_argument("--key", default="", metavar="FILE", help="NAME.key_secret, if the stream encrypts")
    parser.add_argument("--server-key", default="", metavar="FILE", help="the box's server.key")
    parser.add_argument("--list", action="store_true", help="print names, numbers of views, cameras, ids and details")
    parser.add_argument("--show", default="", metavar="NAME", help="print all that is known of a person")
    parser.add_argument("--json", action="store_true", help="with --list and --show: a line of JSON for each person")
    parser.add_argument("--rename", nargs=2, metavar=("OLD", "NEW"), help="the id stays")
    parser.add_argument("--merge", nargs=2, metavar=("A", "B"), help="B turned out to be A")
    parser.add_argument("--unmerge", default="", metavar="B", help="... and yet was somebody else")
    parser.add_argument("--remove", default="", metavar="NAME", help="take a person out; --undo brings him back")
    parser.add_argument("--undo", action="store_true", help="take the latest change back (again: the one before)")
    parser.add_argument("--backup", default="", metavar="FILE", help="a copy that only this box can read")
    parser.add_argument("--restore", default="", metavar="FILE", help="make the gallery what it was at a backup")
    parser.add_argument("--export", default="", metavar="FILE", help="everybody in one file, for another box")
    parser.add_argument("--import", dest="import_", default="", metavar="FILE", help="take in an exported gallery")
    parser.add_argument("--export-key", default="", metavar="PLACE", help="seal the exported file: file:PATH, env:NAME")
    parser.add_argument("--re-embed", default="", metavar="FILE", help="a new gallery for --bundle, from kept pictures")
    parser.add_argument("--encrypt", action="store_true", help="keep the gallery encrypted with --box-key from now on")
    parser.add_argument("--decrypt", action="store_true", help="... and no longer")
    parser.add_argument("--box-key", default="", metavar="PLACE", help="file:PATH, env:NAME or credential:NAME")
    parser.add_argument("--audit", default="", metavar="FILE", help="audit log (default: GALLERY.audit if it is there)")
    parser.add_argument("--engine", default="auto", help="inference engine")
    return parser


def _main() -> int:
    given = _parser().parse_args()
    sources = [bool(given.image), bool(given.video), bool(given.track)]
    enrolling = bool(given.name or given.not_ or any(sources))
    tasks = [task for task in TASKS if getattr(given, task)]
    if enrolling + len(tasks) != 1 or (given.name and given.not_):
        raise UserError(
            "give either --name with --image, --video or --track, or --not NAME with one of them, or one of "
            + ", ".join(f"--{task.strip('_').replace('_', '-')}" for task in TASKS)
        )
    details = bool(given.label) or given.note is not None or given.expires is not None
    named_only = bool(given.name) and details and not any(sources)
    if enrolling and not named_only and (not (given.name or given.not_) or sum(sources) != 1):
        raise UserError("enrolling needs --name (or --not) and one of --image, --video and --track")
    if details and not given.name:
        raise UserError("--label, --note and --expires belong to --name NAME")
    if given.keep_crops and given.track:
        raise UserError("--keep-crops: a stream gives no pictures of a track; enrol from --image or --video")
    from personsearch.core.bundle import read_manifest
    from personsearch.runtime.operations import gallery_commands
    from personsearch.runtime.operations.place import Place, audit_of
    from personsearch.runtime.settings import default_bundle

    bundle = Path(given.bundle or default_bundle())
    manifest = read_manifest(bundle)
    place = Place(
        Path(given.gallery), manifest.model_hash, manifest.dimensions, given.box_key,
        audit=audit_of(given.gallery, given.audit),
    )  # fmt: skip
    if tasks == ["re_embed"]:
        from personsearch.core.engines.searcher import BundleSearcher

        return gallery_commands.re_embed(place, given.re_embed, BundleSearcher(bundle, given.engine).embed)
    if tasks:
        return gallery_commands.run(tasks[0], place, given)
    place.audit.check()
    return _enrol(given, bundle, manifest, place)


def _enrol(given: argparse.Namespace, bundle: Path, manifest: Manifest, place: Place) -> int:
    from personsearch.runtime.decisions.enrolment import check_likeness
    from personsearch.runtime.decisions.gallery_file import load_or_begin
    from personsearch.runtime.decisions.names import person_name
    from personsearch.runtime.operations.gallery_commands import described

    name = person_name(given.name or given.not_)
    gallery = load_or_begin(given.gallery, manifest.model_hash, manifest.dimensions, given.box_key)
    if given.not_ or not (given.image or given.video or given.track):
        gallery.person(name)  # is there such a person?
    details = described(given)
    views: list[EnrolledView] = []
    if given.track:
        views = _from_track(given, manifest)
    elif given.image or given.video:
        views = _from_files(given, bundle)
    now = time.time()
    views = [replace(view, time=now) for view in views]
    for warning in check_likeness(gallery, name, views) if given.name and views else []:
        print(f"warning: {warning}", file=sys.stderr)
    with place.changing("said not to be" if given.not_ else "enrolled" if views else "described") as gallery:
        for view in views:
            gallery.add(name, view, negative=bool(given.not_))
        person = gallery.person(name)
        if given.name:
            gallery.put(replace(person, details=details(person.details)))
    facts = {"person": person.id, "views": len(views), "sources": sorted({view.source for view in views})}
    place.audit.add("negative-views" if given.not_ else "enrolled" if views else "described", **facts)
    if given.not_:
        print(f"noted {len(views)} view(s) of somebody who is not {name} in {given.gallery}")
    else:
        print(f"enrolled {name} with {gallery.names.count(name)} view(s) in {given.gallery}")
    return 0


def _from_files(given: argparse.Namespace, bundle: Path) -> list[EnrolledView]:
    from personsearch.core.engines.searcher import BundleSearcher
    from personsearch.core.pictures import read_picture
    from personsearch.runtime.decisions.enrolment import check_quality, from_picture, from_video, parse_box
    from personsearch.runtime.decisions.gallery import PICTURE, EnrolledView

    box = parse_box(given.box)
    if given.box and len(given.image) > 1:
        raise UserError("--box belongs to one picture; enrol several pictures with boxes one by one")
    if given.video and box is None:
        raise UserError("--video needs --box x,y,w,h: who is it, at --at SECONDS?")
    for file in given.image:  # what cannot be read is said before the model is loaded, which takes its time
        read_picture(file)
    searcher = BundleSearcher(bundle, given.engine)
    if given.video:
        assert box is not None
        seen = from_video(searcher, given.video, box, given.at)
    else:
        seen = [from_picture(searcher, Path(file), box) for file in given.image]
    for warning in check_quality(seen, given.force):
        print(f"warning: {warning}", file=sys.stderr)
    return [
        EnrolledView(
            s.embedding, given.camera or PICTURE, min(1.0, s.quality.value), origin=_origin(s.where),
            crop=s.crop if given.keep_crops else None,
        )
        for s in seen
    ]  # fmt: skip


def _origin(where: str) -> str:
    """A file's name without its folders, and when in it; what is no text in it is escaped."""
    file, at, moment = where.rpartition(" at ")
    return printable(f"{Path(file).name}{at}{moment}" if at else Path(where).name)[-300:]


def _from_track(given: argparse.Namespace, manifest: Manifest) -> list[EnrolledView]:
    from personsearch.runtime.decisions.enrolment import MOST_VIEWS, no_track, track_of
    from personsearch.runtime.decisions.gallery import EnrolledView
    from personsearch.runtime.delivery.views import ask_views

    camera, number = track_of(given.track)
    rows, qualities, model = ask_views(given.connect, camera, number, given.key, given.server_key)
    if not len(rows):
        raise no_track(camera, number)
    if model != manifest.model_hash:
        raise GalleryError(f"the stream runs model {model}, but the bundle is {manifest.model_hash}; name its --bundle")
    best = np.argsort(-np.array(qualities), kind="stable")[:MOST_VIEWS]
    origin = f"track {camera}/{number}"
    return [EnrolledView(rows[i], camera, float(qualities[i]), origin=origin) for i in sorted(best.tolist())]


if __name__ == "__main__":
    sys.exit(main())
