"""What Prometheus scrapes of the centre."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from psycopg_pool import PoolTimeout

from personsearch.centre.database import visits
from personsearch.centre.house import House

CONTENT_TYPE = CONTENT_TYPE_LATEST
ENDED = ("offline", "ended")


async def exposition(house: House) -> bytes:
    """All metrics as text; those of boxes are left out while the database does not answer."""
    boxes = None
    try:
        async with house.pool.connection(2.0) as connection:
            boxes = await visits.boxes(connection)
    except (psycopg.Error, PoolTimeout):
        pass
    registry = CollectorRegistry()
    registry.register(_Once([*_intake(house), *_galleries(house), *_boxes(boxes)]))  # type: ignore[arg-type]
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Once:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _intake(house: House) -> Iterator[Metric]:
    counts = house.intake.counts
    yield _counter("centre_events_received", "Events that the hub gave", counts.received)
    yield _counter("centre_events_stored", "Events that were new", counts.stored)
    yield _counter("centre_events_duplicate", "Events that were there already", counts.duplicates)
    yield _by("centre_events_refused", "Events that were not taken", "cause", counts.refused)
    yield _by("centre_events_left_out", "Events that are not kept", "cause", counts.left_out)
    yield _counter("centre_intake_outages", "Times that hub or database were away", counts.outages)
    yield _counter("centre_store_seconds", "Time spent writing", counts.seconds)
    yield _gauge("centre_codes", "Stays whose codes are in memory", len(house.codes))
    yield _counter("centre_days_dropped", "Days whose time was over", house.dropped_days)
    if counts.waiting >= 0:
        yield _gauge("centre_events_waiting", "Events that the hub has for the centre", counts.waiting)
    yield _gauge("centre_intake_up", "1 while events are taken", float(not house.intake.trouble))


def _boxes(boxes: list[dict] | None) -> Iterator[Metric]:  # type: ignore[type-arg]
    yield _gauge("centre_database_up", "1 while the database answers", float(boxes is not None))
    if boxes is None:
        return
    heard = GaugeMetricFamily("personsearch_box_heard_seconds", "Since the latest event was taken", labels=["box"])
    late = GaugeMetricFamily("personsearch_box_late_seconds", "Age of the latest event when taken", labels=["box"])
    online = GaugeMetricFamily("personsearch_box_cameras", "Cameras by state", labels=["box", "state"])
    engine = GaugeMetricFamily("personsearch_box_engine_ready", "1 while the engine is ready", labels=["box"])
    now = time.time()
    for box in boxes:
        name = box["box"]
        heard.add_metric([name], max(0.0, now - box["heard"].timestamp()))
        late.add_metric([name], max(0.0, (box["heard"] - box["event_time"]).total_seconds()))
        if box["engine"]:
            engine.add_metric([name], float(box["engine"] == "ready"))
        states = [camera["state"] for camera in box["cameras"] if camera["state"]]
        for state in ("online", *ENDED):
            online.add_metric([name, state], states.count(state))
    yield from (heard, late, online, engine)


def _galleries(house: House) -> Iterator[Metric]:
    people = GaugeMetricFamily("personsearch_gallery_people", "People shared in a group", labels=["group"])
    pending = GaugeMetricFamily(
        "personsearch_gallery_pending", "Erasures that a box has not confirmed yet", labels=["group", "box"]
    )
    for name, gallery in house.galleries.items():
        people.add_metric([name], len(gallery.people()))
        for box, count in gallery.pending().items():
            pending.add_metric([name, box], count)
    yield from (people, pending)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"personsearch_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"personsearch_{name}", text, value=value)


def _by(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"personsearch_{name}", text, labels=[label])
    for cause, count in sorted(counts.items()):
        family.add_metric([cause], count)
    return family
