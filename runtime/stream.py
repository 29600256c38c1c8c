#!/usr/bin/env python
"""Watch cameras and publish matches: `runtime/stream.py --cams cams.yaml [--bundle B] [--gallery G] [--record DIR]`.

Ends when the last camera has ended, or on Ctrl-C or SIGTERM, with a summary. Exit status 0, or 2 for wrong input.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time

from personsearch.core.config import load_settings
from personsearch.core.errors import UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cams", required=True, help="YAML file with cameras; see configs/cams.yaml")
    parser.add_argument("--bundle", default="", help="bundle folder (default: `bundle` in the file, else models/edge)")
    parser.add_argument("--gallery", default="", help="gallery file (default: `gallery` in the file)")
    parser.add_argument("--record", default="", metavar="DIR", help="write annotated video there; off by default")
    parser.add_argument("--engine", default="", help="inference engine (default: `engine` in the file, else auto)")
    parser.add_argument("--validate", action="store_true", help="check all files, then end")
    arguments = parser.parse_args()
    from personsearch.core.engines import BundleSearcher
    from personsearch.runtime.gallery import load_gallery
    from personsearch.runtime.pipeline import Pipeline
    from personsearch.runtime.publisher import Publisher
    from personsearch.runtime.recorder import Recorder
    from personsearch.runtime.settings import StreamSettings, default_bundle

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    settings = load_settings(arguments.cams, StreamSettings)
    gallery_path = arguments.gallery or settings.gallery
    if not gallery_path:
        raise UserError("no gallery: give --gallery FILE or `gallery:` in the file; runtime/enroll.py makes one")
    bundle = arguments.bundle or settings.bundle or default_bundle()
    searcher = BundleSearcher(bundle, arguments.engine or settings.engine, settings.threads)
    gallery = load_gallery(gallery_path, searcher.manifest.model_hash, searcher.dimensions)
    if not gallery.people:
        raise UserError(f"{gallery_path}: nobody is enrolled; add people with runtime/enroll.py")
    if arguments.validate:
        print(f"valid: {len(settings.cameras)} cameras, {len(gallery.people)} people, model {gallery.model_hash}")
        return 0
    recorder = Recorder(arguments.record) if arguments.record else None
    publisher = Publisher(settings.publish.endpoint)
    pipeline = Pipeline(settings, searcher, gallery, publisher.publish, recorder)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: pipeline.stop())
    logging.info(
        "%d cameras, %d people, threshold %.3f, engine %s, events on %s",
        len(settings.cameras), len(gallery.people), pipeline.threshold, searcher.engine.name, publisher.endpoint,
    )  # fmt: skip
    try:
        pipeline.run(lambda: print("\n".join(pipeline.status_lines()), file=sys.stderr, flush=True))
    finally:
        if recorder:
            recorder.close()
        publisher.close()
    print_summary(pipeline)
    return 0


def print_summary(pipeline) -> None:  # type: ignore[no-untyped-def]
    elapsed = time.monotonic() - pipeline.started
    analysed = sum(s.analysed for s in pipeline.statistics.values())
    print("\n".join(pipeline.status_lines()))
    per_frame = 1000 * pipeline.inference_s / max(1, analysed)
    print(
        f"total: {analysed} frames in {elapsed:.1f} s ({analysed / max(elapsed, 1e-6):.1f} frames/s, "
        f"{per_frame:.1f} ms inference a frame), {sum(s.matches for s in pipeline.statistics.values())} match events"
    )


if __name__ == "__main__":
    sys.exit(main())
