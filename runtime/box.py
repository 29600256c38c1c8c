"""One box's stream: the pipeline and everything that runs beside it, begun together and closed in reverse."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from personsearch.core.bundle import Manifest, read_manifest
from personsearch.core.config import load_settings
from personsearch.core.errors import UserError
from personsearch.runtime.decisions.calibration import CameraCalibration, calibration_file, load_calibration
from personsearch.runtime.decisions.camera_means import means_file
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.gallery_file import begin_gallery, load_gallery
from personsearch.runtime.decisions.people import check_targets
from personsearch.runtime.delivery.endpoints import reachable
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.history.store import History
from personsearch.runtime.operations import tracing
from personsearch.runtime.operations.audit import AuditLog
from personsearch.runtime.operations.console import Console
from personsearch.runtime.operations.corrections import Corrections
from personsearch.runtime.operations.erasers import erasers_of
from personsearch.runtime.operations.growth import Growth
from personsearch.runtime.operations.logs import set_up_logs
from personsearch.runtime.operations.monitoring import Operations, tell_systemd
from personsearch.runtime.operations.place import Place
from personsearch.runtime.operations.reload import Reloader, check_cameras, check_details
from personsearch.runtime.operations.retention import Retention
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.recording.recorder import Recorder
from personsearch.runtime.settings import StreamSettings, default_bundle

log = logging.getLogger("personsearch")


@dataclass(frozen=True)
class Inputs:
    """What the command line and the files ask for, checked."""

    arguments: argparse.Namespace  # of stream.py
    settings: StreamSettings
    bundle: str | Path
    manifest: Manifest
    gallery_path: str
    gallery: Gallery
    calibrations: Mapping[str, CameraCalibration]
    page: bool  # serve the operator's page

    def try_out(self) -> None:
        """What only the start of everything shows. Raises UserError."""
        from personsearch.core.engines.searcher import BundleSearcher

        if self.page:
            from personsearch.runtime.page.supervisor import check_page

            check_page(self.settings.page)
        BundleSearcher(self.bundle, self.settings.engine, self.settings.threads)


def read_inputs(arguments: argparse.Namespace, console: Console) -> Inputs:
    """Raises UserError for whatever is wrong with the files. From then on logs go to the console as configured."""
    settings = load_settings(arguments.cams, StreamSettings)
    set_up_logs(settings.operations.log, console)
    check_cameras(settings, arguments.cams, strict=arguments.validate)
    path = arguments.gallery or settings.gallery
    if not path:
        raise UserError("no gallery: give --gallery FILE or `gallery:` in the file; personsearch-enroll makes one")
    bundle = arguments.bundle or settings.bundle or default_bundle()
    settings = settings.model_copy(update={"engine": arguments.engine or settings.engine})
    manifest = read_manifest(bundle)
    check_details(settings, arguments.cams, manifest)
    page = arguments.page or settings.page.enabled
    later = page or settings.fleet.gallery is not None  # somebody can be enrolled by the page, or come from the group
    if later and not arguments.validate:
        begin_gallery(path, manifest.model_hash, manifest.dimensions)
    gallery = load_gallery(path, manifest.model_hash, manifest.dimensions, settings.gallery_key)
    if not gallery.people and not later:
        raise UserError(f"{path}: nobody is enrolled; add people with personsearch-enroll")
    calibrations = load_calibration(calibration_file(path), manifest.model_hash)
    check_targets(settings, manifest, gallery, calibrations)
    if settings.fleet.configured:
        from personsearch.runtime.forward import check_fleet

        check_fleet(settings)
    return Inputs(arguments, settings, bundle, manifest, path, gallery, calibrations, page)


class Box:
    """A context: whatever cannot start raises UserError, and nothing is left running."""

    def __init__(self, inputs: Inputs) -> None:
        self._parts = contextlib.ExitStack()
        try:
            self._begin(inputs)
        except BaseException:
            self._parts.close()
            raise

    def _begin(self, inputs: Inputs) -> None:
        settings, manifest, arguments = inputs.settings, inputs.manifest, inputs.arguments
        recorder, record, free_mb = None, settings.record, settings.operations.record_min_free_mb
        if arguments.record:
            record = record.model_copy(update={"mode": "all", "folder": arguments.record})
        if record.folder:
            recorder = Recorder(record, free_mb, limited="record" in settings.model_fields_set)
            self._parts.callback(recorder.close)
        if settings.publish.insecure and not settings.publish.loopback:
            log.warning("publish.insecure: anybody who reaches %s can read the events", settings.publish.endpoint)
        audit = AuditLog(settings.audit.path, settings.audit.keep_days)
        audit.add("stream-started", thresholds=settings.match.model_dump(), people=len(inputs.gallery.people))
        self.publisher = publisher = Publisher(settings.publish, settings.journal, settings.box)
        self._parts.callback(publisher.close)
        self.pipeline = pipeline = Pipeline(
            settings, inputs.bundle, manifest, inputs.gallery, publisher.publish, keep_trying=arguments.keep_trying,
            calibrations=inputs.calibrations, means=means_file(inputs.gallery_path),
        )  # fmt: skip
        if recorder is not None:
            pipeline.watchers.append(recorder.write)
            pipeline.sightings.listeners.append(recorder.on_change)
        history = None
        if settings.history.path:
            history = History(
                settings.history, manifest.model_hash, manifest.dimensions,
                lambda name: pipeline.camera(name).settings.history, free_mb,
            )  # fmt: skip
            self._parts.callback(history.close)
            pipeline.watchers.append(history.look)
            pipeline.sightings.stay_listeners.append(history.add)
        if tracing.wanted():
            traces = tracing.Traces(settings.box)
            self._parts.callback(traces.close)
            pipeline.watchers.append(traces.look)
        if settings.fleet.embeddings:
            self._tell_stays(inputs)
        publisher.serve_views(pipeline.people.views_of)
        publisher.serve_names(pipeline.people.names)
        self.reloader = Reloader(arguments.cams, arguments.gallery, arguments.engine, pipeline, audit)
        place = Place(
            Path(inputs.gallery_path), manifest.model_hash, manifest.dimensions, settings.gallery_key,
            settings.journal.path, audit,
        )  # fmt: skip
        erasers = erasers_of(inputs.gallery_path, settings.history.path, record.folder)
        growth = Growth(pipeline, place, self.reloader.ask) if settings.growth.enabled else None
        if growth is not None:
            self._parts.callback(growth.close)
        retention = Retention(place, settings.retention.expired_days, self.reloader.ask, erasers)
        self.reloader.listeners.append(lambda new: _keep_for(new, publisher, history, recorder, retention))
        retention.start()
        self._parts.callback(retention.close)
        operations = Operations(settings.operations, pipeline, publisher)
        self._parts.callback(operations.close)
        pipeline.every_second += [self.reloader.look, lambda _now: tell_systemd("WATCHDOG=1"), operations.watch_storage]
        if settings.fleet.configured:
            from personsearch.runtime.fleet.process import ForwarderProcess

            forwarder = ForwarderProcess(
                arguments.cams, reachable(publisher.endpoint), reachable(publisher.replay_endpoint),
                inputs.gallery_path, str(inputs.bundle),
            )  # fmt: skip
            self._parts.callback(forwarder.close)
            pipeline.every_second.append(forwarder.look)
        if inputs.page:
            corrections = self._serve_page(inputs.bundle, settings.model_copy(update={"record": record}))
            corrections.listeners += [part.correct for part in (history, recorder, growth) if part is not None]
        self._parts.callback(tell_systemd, "STOPPING=1")
        log.info(
            "%d cameras, %d people, %s, events on %s, replay on %s%s%s",
            len(settings.cameras), len(inputs.gallery.people), pipeline.people.promise, publisher.endpoint,
            publisher.replay_endpoint, ", encrypted" if publisher.guard else "",
            f", metrics on {operations.address}" if operations.address else "",
        )  # fmt: skip
        if not settings.journal.path:
            log.info("no journal.path: missed events can be replayed only while this program runs")

    def _tell_stays(self, inputs: Inputs) -> None:
        """Sealed descriptions of all who were seen, for the centre. Raises UserError without the group's key."""
        from personsearch.runtime.fleet.sealing import load_group_key
        from personsearch.runtime.fleet.stays import StayTeller

        pipeline, settings = self.pipeline, inputs.settings
        key = load_group_key(settings.fleet.filled().group_key)
        teller = StayTeller(
            settings.box, inputs.manifest.model_hash, key, pipeline.people.offset,
            lambda name: pipeline.camera(name).settings.history, self.publisher.publish,
        )  # fmt: skip
        pipeline.watchers.append(teller.look)
        pipeline.sightings.stay_listeners.append(teller.tell)

    def _serve_page(self, bundle: str | Path, settings: StreamSettings) -> Corrections:
        """The control socket and the page's process; gives what answers of its review correct. Raises UserError, also
        without [page]."""
        from personsearch.runtime.operations.control import Control
        from personsearch.runtime.page.supervisor import PageProcess

        pipeline = self.pipeline
        control = Control(pipeline, self.publisher, self.reloader.ask)
        self._parts.callback(control.close)
        page = PageProcess(settings, self.reloader.cams, self.reloader.gallery, bundle, control, self.publisher)
        self._parts.callback(page.close)
        pipeline.watchers.append(control.see)
        pipeline.every_second.append(page.look)
        log.info("the operator's page is at %s", page.link)
        return control.corrections

    def __enter__(self) -> Box:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()


def _keep_for(
    settings: StreamSettings, publisher: Publisher, history: History | None, recorder: Recorder | None,
    retention: Retention,
) -> None:  # fmt: skip
    """After a reload: how long things are kept from now on."""
    publisher.journal.settings = settings.journal
    if history is not None:
        history.settings = settings.history
    if recorder is not None:
        limits = {"keep_hours": settings.record.keep_hours, "max_mb": settings.record.max_mb}
        recorder.settings = recorder.settings.model_copy(update=limits)
    retention.expired_days = settings.retention.expired_days
    retention.place.audit.keep_days = settings.audit.keep_days
