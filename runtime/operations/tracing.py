"""The way of a frame as OpenTelemetry spans, for a sample of the frames: it waits, is analysed, matched, published.

Switched on by OpenTelemetry's own environment variables; else nothing of it is imported. A span says which camera and
which frame, and how many people and matches, never who.
"""

from __future__ import annotations

import logging
import os
from typing import Any
from urllib.parse import unquote

from personsearch.core.errors import UserError
from personsearch.core.redaction import remember, remember_url
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.recognition import Match

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")  # often a token
SHARE = 0.01  # of the frames, unless OTEL_TRACES_SAMPLER says otherwise
STEPS = ("wait", "analyse", "match", "publish")


def wanted() -> bool:
    return any(os.environ.get(name) for name in ENDPOINTS) and os.environ.get("OTEL_SDK_DISABLED", "") != "true"


class Traces:
    """Spans leave from a thread of their own, and are dropped while nobody takes them."""

    def __init__(self, box: str) -> None:
        """Raises UserError without the packages."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
            from opentelemetry.trace import set_span_in_context
        except ImportError:
            raise UserError(
                "traces are asked for by OTEL_EXPORTER_OTLP_ENDPOINT, but there is no OpenTelemetry; install "
                "personsearch[trace], or unset it"
            ) from None
        for name in ENDPOINTS:
            remember_url(os.environ.get(name, ""))
        for header in ",".join(os.environ.get(name, "") for name in HEADERS).split(","):
            remember(unquote(header.partition("=")[2].strip()))
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        name = os.environ.get("OTEL_SERVICE_NAME", "personsearch")
        sampler = None if os.environ.get("OTEL_TRACES_SAMPLER") else TraceIdRatioBased(SHARE)
        resource = Resource.create({"service.name": name, "service.instance.id": box})
        try:
            self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except (ValueError, OSError) as error:  # a number, a compression or a certificate that is none
            raise UserError(f"traces: a variable OTEL_... cannot be used ({error}); correct it, or unset it") from None
        self._tracer, self._below = self._provider.get_tracer("personsearch"), set_span_in_context

    def look(self, frame: Frame, tracks: list[Track], matches: list[Match]) -> None:
        """Of each frame when its events are with the publisher."""
        if frame.late:  # its times say when it was decoded after all, not how long anything took
            return
        facts: dict[str, str | int] = {
            "camera": frame.camera, "frame": frame.index, "people": len(tracks), "matches": len(matches)
        }  # fmt: skip
        moments = [frame.monotonic, frame.submitted, frame.analysed, frame.decided, frame.told]
        times = [round(1e9 * (frame.wall + moment - frame.monotonic)) for moment in moments]
        whole = self._tracer.start_span("frame", start_time=times[0], attributes=facts)
        if whole.is_recording():
            below: Any = self._below(whole)
            for step, begin, end in zip(STEPS, times, times[1:], strict=False):
                self._tracer.start_span(step, below, start_time=begin).end(end)
        whole.end(times[-1])

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()
