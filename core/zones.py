"""Zones and lines in a camera's picture: who stands in which zone, and who has crossed a line which way.

Points are shares of the upright picture, x to the right and y down. A person is where the feet are: the middle of the
box's lower edge. Everything has a margin, because boxes tremble: a zone is entered, and left, by two frames in a row,
and a line is crossed by feet that are clear of it on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from personsearch.core.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Share, Share]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
LEAST_AREA, LEAST_LENGTH = 1e-4, 0.01  # of a zone and of a line, in shares
CLEAR = 0.01  # feet so far from a line are clear of it
IN_A_ROW = 2  # frames


class ZoneSettings(Settings):
    """`watch` says who enters; `ignore` leaves out whoever stands there; with `entering`, people of this camera are
    told of only once they came into such a zone from outside it."""

    name: Name
    polygon: tuple[Point, ...] = Field(min_length=3, max_length=64)
    kind: Literal["watch", "ignore", "entering"] = "watch"

    @field_validator("polygon")
    @classmethod
    def _simple(cls, value: tuple[Point, ...]) -> tuple[Point, ...]:
        points = np.array(value)
        x, y = points.T
        count = len(points)
        for i in range(count):
            for j in range(i + 2, count - (i == 0)):
                if _cross(points[i], points[(i + 1) % count], points[j], points[(j + 1) % count]):
                    raise ValueError(f"its sides {i + 1} and {j + 1} cross; give the corners in their order around it")
        if abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 < LEAST_AREA:
            raise ValueError("expected three or more corners [x, y], shares of the picture, with some area")
        return value


class LineSettings(Settings):
    """Crossing it from its left to its right, looking from the first point to the second one, is `in`."""

    name: Name
    points: tuple[Point, Point]
    tell: Literal["both", "in", "out"] = "both"

    @field_validator("points")
    @classmethod
    def _long(cls, value: tuple[Point, Point]) -> tuple[Point, Point]:
        if np.linalg.norm(np.subtract(*value)) < LEAST_LENGTH:
            raise ValueError("expected two different points [x, y], shares of the picture")
        return value


@dataclass
class Path:
    """Where one track has been, as far as zones and lines go."""

    inside: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)  # frames in a row that say otherwise
    began: bool = False
    clear: dict[str, np.ndarray] = field(default_factory=dict)  # by line: the latest point that was clear of it


@dataclass(frozen=True)
class Step:
    """What a frame has added to a path: zones entered and lines crossed (NAME:in, NAME:out)."""

    zones: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    admitted: bool = False  # came into a zone of kind `entering`


class Areas:
    """The zones and lines of one camera."""

    def __init__(self, zones: Sequence[ZoneSettings] = (), lines: Sequence[LineSettings] = ()) -> None:
        self.zones = {zone.name: zone for zone in zones if zone.kind != "ignore"}
        self._polygons = {zone.name: np.array(zone.polygon) for zone in self.zones.values()}
        self._lines = {line.name: (np.array(line.points), line.tell) for line in lines}
        self.only_entering = any(zone.kind == "entering" for zone in self.zones.values())

    def __bool__(self) -> bool:
        return bool(self.zones or self._lines)

    def step(self, path: Path, feet: np.ndarray) -> Step:
        """The person of `path` is now at `feet` (2,)."""
        entered = self._zones(path, feet)
        admitted = any(self.zones[name].kind == "entering" for name in entered)
        return Step(tuple(entered), tuple(self._crossings(path, feet)), admitted)

    def _zones(self, path: Path, feet: np.ndarray) -> list[str]:
        entered = []
        for name, polygon in self._polygons.items():
            inside = bool(inside_polygon(feet[None], polygon)[0])
            if not path.began:  # where somebody appears he has not entered
                path.inside |= {name} if inside else set()
            elif inside == (name in path.inside):
                path.counts.pop(name, None)
            else:
                path.counts[name] = path.counts.get(name, 0) + 1
                if path.counts[name] >= IN_A_ROW:
                    del path.counts[name]
                    path.inside ^= {name}
                    entered += [name] if inside else []
        path.began = True
        return entered

    def _crossings(self, path: Path, feet: np.ndarray) -> list[str]:
        crossed = []
        for name, (line, tell) in self._lines.items():
            along = line[1] - line[0]
            side = _turn(along, feet - line[0])
            if abs(side) / float(np.linalg.norm(along)) < CLEAR:
                continue
            before = path.clear.get(name)
            if before is not None and _cross(before, feet, line[0], line[1]):
                way = "in" if side > 0 else "out"  # y points down: a positive turn is to the right
                crossed += [f"{name}:{way}"] if tell in ("both", way) else []
            path.clear[name] = feet
        return crossed


def inside_polygon(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """(N,) bool: do points (N, 2) lie in the polygon (M, 2)? By the number of sides to the right of them."""
    x, y = points[:, :1], points[:, 1:]
    x1, y1 = polygon.T
    x2, y2 = np.roll(x1, -1), np.roll(y1, -1)
    spans = (y1 <= y) != (y2 <= y)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
    inside: np.ndarray = (spans & (x < at)).sum(1) % 2 == 1
    return inside


def _turn(one: np.ndarray, other: np.ndarray) -> float:
    return float(one[0] * other[1] - one[1] * other[0])


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Do the segments a-b and c-d cross?"""
    apart = _turn(b - a, c - a) * _turn(b - a, d - a) < 0
    return apart and _turn(d - c, a - c) * _turn(d - c, b - c) < 0
