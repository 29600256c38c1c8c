"""/metrics (Prometheus), /healthz and /readyz over HTTP on loopback."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from personsearch.core.redaction import redact
from personsearch.runtime.cameras.detail import CAUSES
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.operations.counters import BOUNDS_S, Durations
from personsearch.runtime.pipeline import Pipeline

log = logging.getLogger("personsearch.operations")


class MetricsServer:
    """Answers in threads of its own, at once. Raises OSError if the port is taken."""

    def __init__(
        self, port: int, pipeline: Pipeline, publisher: Publisher, checks: dict[str, Callable[[], str]]
    ) -> None:  # fmt: skip
        """checks  by path: empty, or what is missing"""
        self._pipeline, self._publisher = pipeline, publisher
        registry = CollectorRegistry()
        registry.register(self)  # type: ignore[arg-type]
        ProcessCollector(registry=registry)
        self._server = _Server(("127.0.0.1", port), _handler(checks, registry))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.5,), name="operations", daemon=True).start()

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client for each scrape."""
        pipeline, publisher = self._pipeline, self._publisher
        captured = CounterMetricFamily("personsearch_frames_captured", "Frames decoded", labels=["camera"])
        analysed = CounterMetricFamily("personsearch_frames_analysed", "Frames analysed", labels=["camera"])
        dropped = CounterMetricFamily("personsearch_frames_dropped", "Frames not analysed", labels=["camera", "cause"])
        damaged = CounterMetricFamily("personsearch_frames_damaged", "Frames with decoding errors", labels=["camera"])
        online = GaugeMetricFamily("personsearch_camera_online", "1 while frames come", labels=["camera"])
        failures = CounterMetricFamily(
            "personsearch_camera_failures", "Openings and streams that failed", labels=["camera"]
        )
        people = GaugeMetricFamily("personsearch_people", "People in the latest frame", labels=["camera"])
        matches = CounterMetricFamily("personsearch_matches", "Match events", labels=["camera"])
        for camera in list(pipeline.cameras):
            name, counters, statistics = [camera.name], camera.counters, pipeline.statistics[camera.name]
            captured.add_metric(name, counters.captured)
            analysed.add_metric(name, counters.analysed)
            for cause, number in list(counters.dropped.items()):
                dropped.add_metric([camera.name, cause], number)
            damaged.add_metric(name, counters.damaged)
            online.add_metric(name, camera.state == "online")
            failures.add_metric(name, counters.failures)
            people.add_metric(name, statistics.now)
            matches.add_metric(name, statistics.matches)
        yield from (captured, analysed, dropped, damaged, online, failures, people, matches)
        views = CounterMetricFamily(
            "personsearch_detail_views", "Views asked of main streams, given or why not", labels=["camera", "result"]
        )
        for camera_name, reader in list(pipeline.details.readers.items()):
            for result in ("given", *CAUSES):
                views.add_metric([camera_name, result], reader.counts[result])
        yield views
        yield _histogram("personsearch_frame_age_seconds", "Capture to start of inference", pipeline.age)
        yield _histogram("personsearch_latency_seconds", "Capture to event", pipeline.latency)
        engine = pipeline.inference
        yield _gauge("personsearch_overload", "Frames that come for each that is analysed", pipeline.overload.factor)
        yield _gauge("personsearch_engine_ready", "1 while the engine works", engine.state == "ready")
        yield _counter("personsearch_engine_restarts", "Engines that were replaced", engine.restarts)
        yield _counter("personsearch_engine_busy_seconds", "Time spent in the engine", engine.busy_s)
        spent = CounterMetricFamily("personsearch_cpu_seconds", "Processor time by stage", labels=["stage"])
        for stage, seconds in (
            ("pipeline", pipeline.cpu_s), ("inference", engine.cpu_s), ("publisher", publisher.cpu_s)
        ):  # fmt: skip
            spent.add_metric([stage], seconds)
        yield spent
        yield _counter("personsearch_events_sent", "Events sent", publisher.sent)
        yield _gauge("personsearch_event_sequence", "Number of the latest event", publisher.journal.sequence)
        yield _gauge("personsearch_journal_failing", "1 while the disk refuses", bool(publisher.journal.failing))
        yield _counter("personsearch_events_not_kept", "Events the journal lost", publisher.journal.not_kept)
        yield _counter("personsearch_replayed_events", "Events sent again", publisher.replay.replayed)
        yield _counter("personsearch_replay_limited", "Replay requests turned away", publisher.replay.limited)
        yield _counter("personsearch_replay_malformed", "Replay requests that were none", publisher.replay.malformed)
        refused = publisher.guard.refused if publisher.guard else 0
        yield _counter("personsearch_subscribers_refused", "Connections with unknown keys", refused)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    buckets, total = [], 0
    for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], list(durations.counts), strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=durations.total_s)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """No thread or no descriptor for a question, or its asker went away: the asker will come again."""
        log.debug("a question was not answered", exc_info=True)
        time.sleep(0.05)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.05)  # descriptors are used up, and the connection still waits: no busy loop
            raise


def _handler(checks: dict[str, Callable[[], str]], registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif self.path in checks:
                trouble = redact(checks[self.path]())
                self._answer(503 if trouble else 200, f"{trouble or 'ok'}\n".encode(), "text/plain; charset=utf-8")
            else:
                self._answer(404, b"there are /metrics, /healthz and /readyz\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            log.debug(format, *arguments)

    return Handler
