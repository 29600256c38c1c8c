"""What came of one segment, on disk: a Parquet file that is there when the segment is done, and not before."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.archive.pictures import Segment
from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.runtime.decisions.sighting import SeenView
from personsearch.runtime.decisions.visits import MOST_VIEWS
from personsearch.runtime.history.index_file import ROWS, as_numpy, load_arrow, visit_schema

PARTS, ABOUT_KEY = "parts", b"personsearch"
OWNER_ONLY, FOLDER = 0o600, 0o700


@dataclass(eq=False)
class Row:
    """A visit, or the part of one that lies in a segment. Columns: `visit_schema`; besides, where it was first and last
    seen. `view_embeddings` (V, D), `view_boxes` (V, 4), the best view first."""

    id: str
    camera: str
    started: float
    ended: float
    video: str
    video_s: float
    track: int
    views: int
    quality: float
    box: np.ndarray
    embedding: np.ndarray
    view_times: list[float]
    view_qualities: list[float]
    view_boxes: np.ndarray
    view_embeddings: np.ndarray
    first_box: np.ndarray
    last_box: np.ndarray
    crop: bytes = b""

    @staticmethod
    def of(
        segment: Segment, number: int, started: float, ended: float, track: int, seen: Sequence[SeenView], kept: int,
        first_box: np.ndarray, last_box: np.ndarray, crop: bytes,
    ) -> Row:  # fmt: skip
        """seen  the stay's views, the best first; kept  how many of them are written besides their mean"""
        video, few = segment.video, seen[:kept]
        dimensions = len(seen[0].embedding)
        return Row(
            f"s-{hashlib.sha256(f'{segment.name}/{number}'.encode()).hexdigest()[:16]}", video.camera, started, ended,
            video.source, seen[0].moment, track, len(seen), seen[0].quality, seen[0].box,
            mean_of(np.array([view.embedding for view in seen])), [video.started + view.moment for view in few],
            [view.quality for view in few], np.array([view.box for view in few], np.float32).reshape(-1, 4),
            np.array([view.embedding for view in few], np.float32).reshape(-1, dimensions), first_box, last_box, crop,
        )  # fmt: skip

    def join(self, later: Row) -> None:
        """Take over what a later part of the same visit has: the best views of both, as a stay keeps them."""
        few = min(MOST_VIEWS, max(len(self.view_times), len(later.view_times)))
        whole = len(self.view_times) == self.views and len(later.view_times) == later.views
        qualities = self.view_qualities + later.view_qualities
        order = sorted(range(len(qualities)), key=lambda i: -qualities[i])[: max(few, MOST_VIEWS if whole else 0)]
        times = self.view_times + later.view_times
        embeddings = np.concatenate([self.view_embeddings, later.view_embeddings])[order]
        boxes = np.concatenate([self.view_boxes, later.view_boxes])[order]
        both = self.views * self.embedding + later.views * later.embedding
        self.embedding = mean_of(embeddings) if whole else mean_of(both[None])
        if later.quality > self.quality:
            self.video, self.video_s, self.quality, self.box = later.video, later.video_s, later.quality, later.box
            self.crop = later.crop or self.crop
        self.view_times, self.view_qualities = [times[i] for i in order], [qualities[i] for i in order]
        self.view_boxes, self.view_embeddings = boxes, embeddings
        self.views = min(MOST_VIEWS, self.views + later.views)
        self.ended, self.track = max(self.ended, later.ended), later.track
        self.last_box = later.last_box


@dataclass(frozen=True, eq=False)
class Edge:
    """Where a visit was in a picture near a border: seconds of the file, number of its row, box (4,)."""

    moment: float
    row: int
    box: np.ndarray


@dataclass(eq=False)
class Part:
    """about: state (analysed, still, empty, damaged), begin, end and until (seconds), decoded, analysed, note, ..."""

    segment: str
    dimensions: int
    about: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    @staticmethod
    def of(segment: Segment, state: str, dimensions: int, note: str = "") -> Part:
        video = segment.video
        about = {
            "state": state, "note": note, "camera": video.camera, "video": video.name, "started": video.started,
            "number": segment.number, "begin": max(0.0, segment.begin_s),
            "end": None if math.isinf(segment.end_s) else segment.end_s, "until": None, "decoded": 0, "analysed": 0,
            "described": 0, "bad_packets": 0, "seconds": round(segment.seconds, 3),
        }  # fmt: skip
        return Part(segment.name, dimensions, about)


def mean_of(embeddings: np.ndarray) -> np.ndarray:
    """(N, D) -> (D,) of length one."""
    mean = np.asarray(embeddings, np.float32).mean(0)
    result: np.ndarray = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return result


def table_of(rows: Sequence[Row], dimensions: int, crops: bool, spans: bool) -> Any:
    """Rows as a pyarrow table; `spans` adds the boxes where each visit was first and last seen."""
    pa = load_arrow()
    schema = visit_schema(dimensions, crops)
    counts = np.cumsum([0, *(len(row.view_times) for row in rows)]).astype(np.int32)

    def vectors(values: list[np.ndarray], kind: Any, width: int) -> Any:
        flat = np.concatenate([np.zeros((0, width)), *(np.asarray(v).reshape(-1, width) for v in values)]).astype(kind)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), width)

    def lists(values: Any) -> Any:
        return pa.ListArray.from_arrays(pa.array(counts), values)

    columns = {
        "visit": [row.id for row in rows], "camera": [row.camera for row in rows],
        "started": [row.started for row in rows], "ended": [row.ended for row in rows],
        "video": [row.video for row in rows], "video_s": [row.video_s for row in rows],
        "track": [row.track for row in rows], "views": [row.views for row in rows],
        "quality": [row.quality for row in rows], "box": vectors([row.box for row in rows], np.float32, 4),
        "embedding": [np.asarray(row.embedding, "<f2").tobytes() for row in rows],
        "view_times": lists(pa.array([t for row in rows for t in row.view_times], pa.float64())),
        "view_qualities": lists(pa.array([q for row in rows for q in row.view_qualities], pa.float32())),
        "view_boxes": lists(vectors([row.view_boxes for row in rows], np.float32, 4)),
        "view_embeddings": lists(vectors([row.view_embeddings for row in rows], np.float16, dimensions)),
    }  # fmt: skip
    if crops:
        columns["crop"] = [row.crop for row in rows]
    arrays = [value if hasattr(value, "type") else pa.array(value, schema.field(name).type)
              for name, value in columns.items()]  # fmt: skip
    table = pa.Table.from_arrays(arrays, schema=schema)
    if spans:
        for name in ("first_box", "last_box"):
            boxes = vectors([getattr(row, name) for row in rows], np.float32, 4)
            table = table.append_column(name, boxes)
    return table


def write_table(path: Path, table: Any) -> None:
    """Whole or not at all. Raises OSError."""
    pa = load_arrow()
    path.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER)
    sink = pa.BufferOutputStream()
    vectors = ("embedding", "view_embeddings")
    packed = {name: "none" if name in vectors else "zstd" for name in table.schema.names}
    pa.parquet.write_table(
        table, sink, row_group_size=ROWS, compression={_leaf(table, n): kind for n, kind in packed.items()},
        use_dictionary=["camera", "video"], write_statistics=["started", "ended"],
    )  # fmt: skip
    replace_file(path, memoryview(sink.getvalue()).tobytes(), OWNER_ONLY)


def _leaf(table: Any, name: str) -> str:
    """A column's path as Parquet names it: lists have levels."""
    pa, kind, path = load_arrow(), table.schema.field(name).type, name
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        path, kind = f"{path}.list.element", kind.value_type
    return path


def part_path(out: Path, segment: str) -> Path:
    return out / PARTS / f"{segment}.parquet"


def write_part(out: Path, part: Part, crops: bool) -> None:
    edges = [[e.moment, e.row, *(round(float(v), 1) for v in e.box)] for e in part.edges]
    about = json.dumps({**part.about, "dimensions": part.dimensions, "edges": edges}).encode()
    table = table_of(part.rows, part.dimensions, crops, spans=True).replace_schema_metadata({ABOUT_KEY: about})
    write_table(part_path(out, part.segment), table)


def about_part(path: Path) -> dict[str, Any]:
    """What a part says of its segment, without its visits. Raises ValueError for what is no part, OSError."""
    pa = load_arrow()
    try:
        found: dict[str, Any] = parse_json(pa.parquet.read_schema(path).metadata[ABOUT_KEY])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a part of an index ({error})") from None
    return found


def read_part(path: Path) -> Part:
    """Raises ValueError for what is no part, OSError."""
    pa, about = load_arrow(), about_part(path)
    table = pa.parquet.read_table(path, use_threads=False)
    columns = {name: as_numpy(table.column(name)) for name in table.schema.names if not name.startswith("view_")}
    views = {n: table.column(n).combine_chunks() for n in table.schema.names if n.startswith("view_")}
    edges = [Edge(moment, int(row), np.array(box, np.float32)) for moment, row, *box in about.pop("edges")]
    dimensions = int(about.pop("dimensions"))
    part = Part(f"{path.parent.name}/{path.stem}", dimensions, about, edges=edges)
    starts = views["view_times"].offsets.to_numpy()
    times, qualities = (views[n].values.to_numpy() for n in ("view_times", "view_qualities"))
    boxes = views["view_boxes"].values.flatten().to_numpy().reshape(-1, 4)
    vectors = views["view_embeddings"].values.flatten().to_numpy().reshape(-1, dimensions)
    for i in range(table.num_rows):
        here = slice(int(starts[i]), int(starts[i + 1]))
        c = {name: column[i] for name, column in columns.items()}
        part.rows.append(Row(
            str(c["visit"]), str(c["camera"]), float(c["started"]), float(c["ended"]), str(c["video"]),
            float(c["video_s"]), int(c["track"]), int(c["views"]), float(c["quality"]), c["box"],
            c["embedding"].astype(np.float32), times[here].tolist(), qualities[here].tolist(), boxes[here],
            vectors[here].astype(np.float32), c["first_box"], c["last_box"], bytes(c.get("crop", b"")),
        ))  # fmt: skip
    return part
