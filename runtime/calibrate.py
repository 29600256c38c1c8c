#!/usr/bin/env python
"""Measure your own cameras: `runtime/calibrate.py --cams cams.yaml [--minutes 10]`.

Watches the cameras (or files) of cams.yaml without naming anybody. People who are seen together are different people:
how alike they look to the model, less the camera's mean, gives the false match rate at every similarity, and tracks
give the passers-by a day. The result is written beside the gallery, bound to model and camera, and a running stream
takes it over. No picture and no embedding is kept. --plot FILE.png draws the curves.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import sys
from pathlib import Path

from personsearch.core.commands import command_line, within
from personsearch.core.config import load_settings
from personsearch.core.errors import UserError, run_main
from personsearch.core.plain_logs import plain_logs


def main() -> int:
    return run_main(_main)


def _parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--cams", required=True, metavar="FILE", help="YAML file with cameras, as for stream.py")
    parser.add_argument("--gallery", default="", help="gallery file (default: `gallery` in the file)")
    parser.add_argument("--bundle", default="", help="bundle folder (default: `bundle` in the file, else models/edge)")
    parser.add_argument("--engine", default="", help="inference engine (default: `engine` in the file, else auto)")
    minutes = within(float, 0, 10_080)  # a week
    parser.add_argument("--minutes", type=minutes, default=10.0, help="how long; files end by themselves (default 10)")
    parser.add_argument("--plot", default="", metavar="FILE.png", help="draw impostors, genuine pairs and the rates")
    return parser


def _main() -> int:
    given = _parser().parse_args()
    if not given.minutes:
        raise UserError("--minutes 0: must be positive")
    from personsearch.core.bundle import read_manifest
    from personsearch.runtime.decisions.calibration import calibration_file, load_calibration, save_calibration
    from personsearch.runtime.decisions.people import odds_of
    from personsearch.runtime.operations.measuring import Measurement, draw
    from personsearch.runtime.settings import StreamSettings, default_bundle

    settings = load_settings(given.cams, StreamSettings)
    gallery = given.gallery or settings.gallery
    if not gallery:
        raise UserError("no gallery: the result is written beside it; give --gallery FILE or `gallery:` in the file")
    bundle = given.bundle or settings.bundle or str(default_bundle())
    manifest = read_manifest(bundle)
    path = calibration_file(gallery)
    known = load_calibration(path, manifest.model_hash)
    plain_logs(logging.WARNING)
    settings = settings.model_copy(update={"engine": given.engine or settings.engine})
    measurement = Measurement(settings, bundle, manifest)
    measurement.watch(60 * given.minutes)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    results, refused = measurement.results(odds_of(manifest), now)
    for name, why in refused.items():
        print(f"{name}: {why}; its calibration stays as it was", file=sys.stderr)
    if not results:
        raise UserError("no camera saw enough people together; watch longer, or at a busier hour")
    save_calibration(path, manifest.model_hash, {**known, **results})
    for name, result in sorted(results.items()):
        print(
            f"{name}: {result.odds.pairs} pairs of people seen together, about {result.passers_by_per_day:.0f} "
            f"passers-by a day; one pair in 1,000 reaches a similarity of {result.odds.similarity_for(1e-3):.3f} "
            f"(the bundle's: {odds_of(manifest).similarity_for(1e-3):.3f})"
        )
    if given.plot:
        draw(measurement, results, Path(given.plot))
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
