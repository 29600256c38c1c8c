"""Where the joined visits go: into Parquet files, or whatever else is a `VisitWriter` (centre_visits.py)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from personsearch.archive.joining import joined, order_of
from personsearch.archive.parts import FOLDER, OWNER_ONLY, Row, about_part, read_part, table_of, write_table
from personsearch.core.files import replace_file, wipe
from personsearch.core.json_text import parse_json
from personsearch.runtime.history.index_file import VISITS, visit_parts
from personsearch.runtime.history.visit_file import day_of

MADE_OF = ".made-of"


class VisitWriter(Protocol):
    """Takes a camera's visits whole, day by day; what it had of that camera before is replaced."""

    def has(self, camera: str, made_of: str) -> bool:
        """Whether it holds exactly what these parts give already. `made_of` is a hash."""

    def begin(self, camera: str) -> None: ...

    def write(self, camera: str, day: str, rows: Sequence[Row]) -> None:
        """Once a day (UTC, by the visits' ends). Raises OSError, UserError."""

    def finish(self, camera: str, made_of: str) -> None: ...

    def keep_only(self, cameras: Collection[str]) -> None:
        """Erase every other camera: nothing of its videos is left in the index."""

    def count(self) -> int:
        """Visits that it holds."""


class ParquetVisits:
    def __init__(self, out: Path, dimensions: int, crops: bool) -> None:
        self.root, self._dimensions, self._crops = out / VISITS, dimensions, crops
        self._written: set[str] = set()

    def has(self, camera: str, made_of: str) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return bool(parse_json((self.root / camera / MADE_OF).read_bytes())["parts"] == made_of)
        return False

    def begin(self, camera: str) -> None:
        (self.root / camera).mkdir(parents=True, exist_ok=True, mode=FOLDER)
        (self.root / camera / MADE_OF).unlink(missing_ok=True)
        self._written = set()

    def write(self, camera: str, day: str, rows: Sequence[Row]) -> None:
        write_table(self.root / camera / f"{day}.parquet", table_of(rows, self._dimensions, self._crops, spans=False))
        self._written.add(f"{day}.parquet")

    def finish(self, camera: str, made_of: str) -> None:
        for path in (self.root / camera).glob("*.parquet"):
            if path.name not in self._written:
                wipe(path)
        replace_file(self.root / camera / MADE_OF, json.dumps({"parts": made_of}).encode(), OWNER_ONLY)

    def keep_only(self, cameras: Collection[str]) -> None:
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.name not in cameras:
                for path in folder.iterdir():
                    wipe(path)
                folder.rmdir()

    def count(self) -> int:
        return sum(part.count for part in visit_parts(self.root.parent))


def join_all(paths: Iterable[Path], writer: VisitWriter, grace_s: float, reunite_similarity: float) -> int:
    """Join the visits of every camera whose parts have changed since; gives how many cameras were written.

    Raises OSError, and ValueError for a part that is none."""
    cameras: dict[str, list[tuple[tuple[float, float], Path]]] = {}
    for path in paths:
        about = about_part(path)
        cameras.setdefault(about["camera"], []).append((order_of(about), path))
    count = 0
    for camera, parts in sorted(cameras.items()):
        ordered = [path for _, path in sorted(parts)]
        state = "".join(f"{path.parent.name}/{path.name}:{path.stat().st_size};" for path in ordered)
        made_of = hashlib.sha256(f"{grace_s}:{reunite_similarity}:{state}".encode()).hexdigest()
        if writer.has(camera, made_of):
            continue
        count += 1
        writer.begin(camera)
        days: dict[str, list[Row]] = {}
        for row in joined(map(read_part, ordered), grace_s, reunite_similarity):
            days.setdefault(day_of(row.ended), []).append(row)
            for day in sorted(days)[:-2]:  # a visit may end on the day before the latest, but no earlier
                writer.write(camera, day, _in_order(days.pop(day)))
        for day, rows in sorted(days.items()):
            writer.write(camera, day, _in_order(rows))
        writer.finish(camera, made_of)
    writer.keep_only(cameras)
    return count


def _in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.started, row.id))
