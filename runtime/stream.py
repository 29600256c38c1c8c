#!/usr/bin/env python
"""Watch cameras and publish matches: `runtime/stream.py --cams cams.yaml [--bundle B] [--gallery G] [--record DIR]`.

Ends when the last camera has ended, or on Ctrl-C or SIGTERM, with a summary. SIGHUP, or a changed file, reloads
cameras, thresholds and gallery. Exit status 0, 2 for wrong input, or 4 if the inference engine failed for good.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time

from personsearch.core.config import load_settings
from personsearch.core.errors import UserError, run_main

log = logging.getLogger("personsearch")


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
    parser.add_argument("--keep-trying", action="store_true", help="go on even if no camera can be opened at the start")
    arguments = parser.parse_args()
    from personsearch.core.bundle import read_manifest
    from personsearch.runtime.gallery import load_gallery
    from personsearch.runtime.logs import set_up_logs
    from personsearch.runtime.operations import Operations, tell_systemd
    from personsearch.runtime.pipeline import Pipeline
    from personsearch.runtime.publisher import Publisher
    from personsearch.runtime.recorder import Recorder
    from personsearch.runtime.reload import Reloader, check_cameras
    from personsearch.runtime.settings import StreamSettings, default_bundle

    settings = load_settings(arguments.cams, StreamSettings)
    set_up_logs(settings.operations.log)
    check_cameras(settings, arguments.cams)
    gallery_path = arguments.gallery or settings.gallery
    if not gallery_path:
        raise UserError("no gallery: give --gallery FILE or `gallery:` in the file; runtime/enroll.py makes one")
    bundle = arguments.bundle or settings.bundle or default_bundle()
    settings = settings.model_copy(update={"engine": arguments.engine or settings.engine})
    manifest = read_manifest(bundle)
    gallery = load_gallery(gallery_path, manifest.model_hash, manifest.dimensions)
    if not gallery.people:
        raise UserError(f"{gallery_path}: nobody is enrolled; add people with runtime/enroll.py")
    if arguments.validate:
        from personsearch.core.engines import BundleSearcher

        BundleSearcher(bundle, settings.engine, settings.threads)
        print(f"valid: {len(settings.cameras)} cameras, {len(gallery.people)} people, model {gallery.model_hash}")
        return 0
    recorder = None
    if arguments.record:
        recorder = Recorder(arguments.record, min_free_mb=settings.operations.record_min_free_mb)
    if settings.publish.insecure and not settings.publish.loopback:
        log.warning("publish.insecure: anybody who reaches %s can read the events", settings.publish.endpoint)
    publisher = Publisher(settings.publish, settings.journal, settings.box)
    operations = None
    try:
        pipeline = Pipeline(
            settings, bundle, manifest, gallery, publisher.publish, recorder, keep_trying=arguments.keep_trying
        )
        reloader = Reloader(arguments.cams, arguments.gallery, arguments.engine, pipeline)
        pipeline.every_second += [reloader.look, lambda _now: tell_systemd("WATCHDOG=1")]
        operations = Operations(settings.operations, pipeline, publisher)
        pipeline.every_second.append(operations.watch_storage)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: pipeline.stop())
        signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
        log.info(
            "%d cameras, %d people, threshold %.3f, events on %s, replay on %s%s%s",
            len(settings.cameras), len(gallery.people), pipeline.threshold, publisher.endpoint,
            publisher.replay_endpoint, ", encrypted" if publisher.guard else "",
            f", metrics on {operations.address}" if operations.address else "",
        )  # fmt: skip
        if not settings.journal.path:
            log.info("no journal.path: missed events can be replayed only while this program runs")
        pipeline.run(lambda: print("\n".join(pipeline.status_lines()), file=sys.stderr, flush=True))
    finally:
        tell_systemd("STOPPING=1")
        if operations:
            operations.close()
        if recorder:
            recorder.close()
        publisher.close()
    print_summary(pipeline)
    return pipeline.exit_status


def print_summary(pipeline) -> None:  # type: ignore[no-untyped-def]
    elapsed = time.monotonic() - pipeline.started
    analysed = sum(c.counters.analysed for c in pipeline.cameras)
    print("\n".join(pipeline.status_lines()))
    per_frame = 1000 * pipeline.inference.busy_s / max(1, analysed)
    print(
        f"total: {analysed} frames in {elapsed:.1f} s ({analysed / max(elapsed, 1e-6):.1f} frames/s, "
        f"{per_frame:.1f} ms inference a frame), {sum(s.matches for s in pipeline.statistics.values())} match events"
    )


if __name__ == "__main__":
    sys.exit(main())
