"""How a box is at this moment, for programs on it: cameras, engine, latency, events, disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.redaction import redact
from personsearch.runtime.cameras.detail import DetailReader
from personsearch.runtime.cameras.urls import without_secrets
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.pipeline import Pipeline

RECENT = 2000  # frames whose latency is shown


def box_state(pipeline: Pipeline, publisher: Publisher) -> dict[str, Any]:
    """Counters since the start, and how everything is now. Reads only; from any thread."""
    engine, journal = pipeline.inference, publisher.journal
    latest = list(pipeline.recent)[-RECENT:]
    p50, p99 = np.percentile(latest, [50, 99]).tolist() if latest else (None, None)
    return {
        "box": pipeline.settings.box, "now": iso_time(time.time()),
        "up_s": round(max(0.0, time.monotonic() - pipeline.started), 1) if pipeline.started else 0.0,
        "cameras": [_camera(pipeline, camera.name) for camera in pipeline.settings.cameras],
        "engine": {
            "state": engine.state, "name": engine.name, "reason": redact(engine.reason), "batches": engine.batches,
            "restarts": engine.restarts, "failures": engine.failures, "described": engine.described,
            "mean_ms": round(1000 * engine.mean_s, 1),
        },
        "latency": {"p50_ms": _ms(p50), "p99_ms": _ms(p99), "frames": len(latest)},
        "cpu_s": {"pipeline": pipeline.cpu_s, "inference": engine.cpu_s, "publisher": publisher.cpu_s},
        "memory_mb": _resident_mb(),
        "events": {
            "sequence": journal.sequence, "sent": publisher.sent, "failing": redact(journal.failing),
            "not_kept": journal.not_kept, "keep_hours": journal.settings.keep_hours,
            "kept_on_disk": bool(journal.settings.path),
        },
        "disk": {"free_mb": _free_mb(journal.path)},
        "model": pipeline.manifest.model_hash, "people": len(pipeline.gallery.people),
        "promise": pipeline.people.promise, "candidates": pipeline.settings.match.candidates,
        "min_margin": pipeline.settings.match.min_margin,
    }  # fmt: skip


def _camera(pipeline: Pipeline, name: str) -> dict[str, Any]:
    camera = next((c for c in list(pipeline.cameras) if c.name == name), None)
    statistics = pipeline.statistics.get(name)
    if camera is None or statistics is None:  # a reload removed it just now
        return {"name": name, "state": "ended", "cause": "settings", "reason": "removed"}
    counters = camera.counters
    return {
        "name": name, "url": without_secrets(camera.settings.url), "state": camera.state, "cause": camera.cause,
        "reason": redact(camera.reason), "captured": counters.captured, "analysed": counters.analysed,
        "dropped": dict(counters.dropped), "damaged": counters.damaged, "failures": counters.failures,
        "people": statistics.now, "tracks": statistics.tracks, "matches": statistics.matches,
        "detail": _detail(pipeline.details.readers.get(name)),
    }  # fmt: skip


def _detail(reader: DetailReader | None) -> dict[str, Any] | None:
    """Of a camera's main stream, from which people are described; None where there is none."""
    if reader is None:
        return None
    return {
        "url": without_secrets(reader.settings.detail_url), "state": reader.state, "cause": reader.cause,
        "reason": redact(reader.reason), "views": dict(reader.counts),
    }  # fmt: skip


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


def _free_mb(path: Path) -> float | None:
    try:
        return round(shutil.disk_usage(path.parent).free / 1e6)
    except OSError:
        return None


def _resident_mb() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    return 0.0
