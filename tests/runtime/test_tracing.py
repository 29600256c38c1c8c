"""Traces: what an OTLP receiver gets of a frame's way, and that nothing of it is loaded unless it is asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from personsearch.core.errors import UserError
from personsearch.core.redaction import redact
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.operations import tracing

ENDPOINT = tracing.ENDPOINTS[0]
MOMENTS = {"submitted": 10.25, "analysed": 10.5, "decided": 10.625, "told": 10.75}


def frame(index: int, late: bool = False) -> Frame:
    return Frame("yard", np.zeros((2, 2, 3), np.uint8), index, 1000.0, 10.0, late=late, **MOMENTS)


def test_a_receiver_gets_one_span_a_frame_with_its_steps_below(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs personsearch[trace]")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.server_port}/v1/traces")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        assert tracing.wanted()
        traces = tracing.Traces("entrance")
        traces.look(frame(7), [], [])
        traces.look(frame(8, late=True), [], [])
        traces.close()
        server.shutdown()
    requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    spans = [s for r in requests for group in r.resource_spans for scope in group.scope_spans for s in scope.spans]
    (whole,) = [span for span in spans if not span.parent_span_id]
    steps = {span.name: span for span in spans if span.parent_span_id == whole.span_id}
    assert whole.name == "frame"
    assert [(a.key, a.value.string_value or a.value.int_value) for a in whole.attributes] == [
        ("camera", "yard"), ("frame", 7), ("people", 0), ("matches", 0),
    ]  # fmt: skip
    seconds = {n: (s.start_time_unix_nano / 1e9, s.end_time_unix_nano / 1e9) for n, s in steps.items()}
    assert seconds == {
        "wait": (1000, 1000.25), "analyse": (1000.25, 1000.5), "match": (1000.5, 1000.625),
        "publish": (1000.625, 1000.75),
    }  # fmt: skip
    told = {a.key: a.value.string_value for a in requests[0].resource_spans[0].resource.attributes}
    assert (told["service.name"], told["service.instance.id"]) == ("personsearch", "entrance")


def test_unless_it_is_asked_for_nothing_is_loaded() -> None:
    code = (
        "import sys; from personsearch.runtime.operations import tracing; "
        "sys.exit(tracing.wanted() or 'opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env={}).returncode == 0


def test_asked_for_without_the_packages_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UserError, match=r"install personsearch\[trace\]"):
        tracing.Traces("entrance")


def test_a_variable_that_cannot_be_used_is_one_line_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs personsearch[trace]")
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setenv(tracing.HEADERS[0], "authorization=Bearer%20hunter22")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-1")
    with pytest.raises(UserError, match="OTEL_"):
        tracing.Traces("box")
    assert "hunter22" not in redact("the receiver said: Bearer hunter22")
