"""How many cameras a box sustains, from measured costs: the engine is one queue, the processor another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personsearch.runtime.operations.trials import CameraTrial, EngineTrial

USABLE = 0.7  # of the engine's and of the processor's time: the rest is for busy minutes, and keeps latency low
OVERHEAD_S = 0.002  # processor time of a frame besides decoding and the engine: tracking, deciding, events
RATES = (5.0, 10.0, 25.0)


@dataclass(frozen=True)
class Demand:
    """A camera: frames a second that are decoded and analysed, and seconds of a core to decode one."""

    decoded: float
    analysed: float
    decode_s: float


@dataclass(frozen=True)
class Capacity:
    wanted: float  # frames a second that all cameras together want analysed
    sustained: float  # how many are, with a share of 1 - USABLE to spare
    decoding: float  # cores that decoding takes
    cameras_at: dict[str, int]  # frames a second -> cameras like the given ones, or without decoding if none is given

    @property
    def overload(self) -> float:
        """Above 1: so many times too much. Infinite if decoding or describing alone is too much."""
        return self.wanted / self.sustained if self.sustained > 0 else float("inf")


def demand(trial: CameraTrial, max_fps: float) -> Demand:
    return Demand(trial.fps, min(trial.fps, max_fps) if max_fps else trial.fps, trial.cpu_s)


def capacity(engine: EngineTrial, described: float, cores: float, cameras: Sequence[Demand]) -> Capacity:
    """described  people a second at most (`describe.per_second`), all of whom are reckoned with
    cores      that this program may use"""
    decoding = sum(c.decoded * c.decode_s for c in cameras)
    like = sum(c.decode_s for c in cameras) / max(1, len(cameras))
    counts = {}
    for rate in RATES:
        count = 0
        while count < 999 and _sustained(engine, described, cores, (count + 1) * rate * like) >= (count + 1) * rate:
            count += 1
        counts[f"{rate:g}"] = count
    return Capacity(sum(c.analysed for c in cameras), _sustained(engine, described, cores, decoding), decoding, counts)


def _sustained(engine: EngineTrial, described: float, cores: float, decoding: float) -> float:
    """Frames a second that can be analysed beside so many cores of decoding."""
    if engine.find_s <= 0:
        return 0.0
    by_engine = (USABLE - described * engine.describe_s) / engine.find_s
    by_processor = (USABLE * cores - decoding - described * engine.describe_cpu_s) / (engine.find_cpu_s + OVERHEAD_S)
    return max(0.0, min(by_engine, by_processor))
