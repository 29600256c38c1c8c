#!/usr/bin/env python
"""Erase a person for good: `runtime/forget.py --cams cams.yaml NAME [--receipt FILE]`, or with --gallery and --journal.

Gallery, undo log, backups made by the program (their key is destroyed), events in journals, visits in the history and
clips of sightings, of running streams as well; then the files are searched for what is left. The receipt (JSON,
without the name) says what was found where, and what no program can reach. NAME may be an id (p-...). Exit status 0,
1 if something is left to do (ask again then), 2 for wrong input. docs/privacy.md says more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from personsearch.core.commands import command_line, within
from personsearch.core.config import load_settings
from personsearch.core.errors import UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("name", metavar="NAME", help="as enrolled, or an id")
    parser.add_argument("--cams", default="", metavar="FILE", help="the stream's cams.yaml: names all the files")
    parser.add_argument("--gallery", default="", metavar="FILE", help="gallery file (default: that of --cams)")
    parser.add_argument("--journal", default="", metavar="FILE", help="journal file (default: that of --cams)")
    parser.add_argument("--history", default="", metavar="DIR", help="history's folder (default: that of --cams)")
    parser.add_argument("--recordings", default="", metavar="DIR", help="folder of clips (default: that of --cams)")
    parser.add_argument("--bundle", default="", help="bundle folder (default: that of --cams, else models/edge)")
    parser.add_argument("--box-key", default="", metavar="PLACE", help="file:PATH, env:NAME or credential:NAME")
    parser.add_argument("--audit", default="", metavar="FILE", help="audit log (default: GALLERY.audit if it is there)")
    parser.add_argument("--receipt", default="", metavar="FILE", help="write the receipt there (default: print it)")
    parser.add_argument(
        "--wait",
        type=within(float, 0, 86_400),
        default=20.0,
        metavar="SECONDS",
        help="for a running stream (default 20)",
    )
    given = parser.parse_args()
    from personsearch.core.bundle import read_manifest
    from personsearch.runtime.operations.erasers import erasers_of
    from personsearch.runtime.operations.forget import forget
    from personsearch.runtime.operations.place import Place, audit_of
    from personsearch.runtime.operations.receipt import summary, write_receipt
    from personsearch.runtime.settings import StreamSettings, default_bundle

    settings = load_settings(given.cams, StreamSettings) if given.cams else None
    gallery = given.gallery or (settings.gallery if settings else "")
    if not gallery:
        raise UserError("give --cams FILE, or --gallery FILE (and --journal FILE)")
    bundle = given.bundle or (settings.bundle if settings else "") or default_bundle()
    manifest = read_manifest(bundle)
    place = Place(
        Path(gallery), manifest.model_hash, manifest.dimensions,
        key=given.box_key or (settings.gallery_key if settings else ""),
        journal=given.journal or (settings.journal.path if settings else ""),
        audit=audit_of(gallery, given.audit or (settings.audit.path if settings else "")),
    )  # fmt: skip
    place.audit.check()
    erasers = erasers_of(
        gallery,
        given.history or (settings.history.path if settings else ""),
        given.recordings or (settings.record.folder if settings else ""),
    )
    receipt = forget(place, given.name, erasers, wait_s=given.wait)
    place.audit.add("forgotten", person=receipt["person"], complete=receipt["complete"])
    if given.receipt:
        write_receipt(given.receipt, receipt)
    else:
        print(json.dumps(receipt, indent=1, ensure_ascii=False))
    print(summary(receipt), file=sys.stderr)
    return 0 if receipt["complete"] else 1


if __name__ == "__main__":
    sys.exit(main())
