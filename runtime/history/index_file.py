"""An index of archived video on disk: Parquet files of visits, made by personsearch-index and searched by
personsearch-search. What stands in them, and how it is read.

    INDEX/index.json                      what it was made with: model, dimensions, frame rate
    INDEX/visits/CAMERA/2026-11-25.parquet  the visits that ended on that day (UTC)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json

FORMAT, ABOUT, VISITS = "personsearch-index/1", "index.json", "visits"
ROWS = 8192  # of a row group, and compared at once


def load_arrow() -> Any:
    """pyarrow with its Parquet part. Raises UserError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("an index needs the package pyarrow; install personsearch[archive]") from None
    return pyarrow


@dataclass(frozen=True)
class IndexHeader:
    """model  hash of the bundle that made the embeddings; settings  what else it was made with"""

    model: str
    dimensions: int
    settings: Mapping[str, Any]


def read_header(root: str | Path) -> IndexHeader:
    """Raises UserError for a folder that is no index."""
    try:
        content = parse_json((Path(root) / ABOUT).read_bytes())
        if content["format"] != FORMAT:
            raise ValueError
        return IndexHeader(str(content["model"]), int(content["dimensions"]), dict(content["settings"]))
    except FileNotFoundError:
        raise UserError(f"{root}: holds no {ABOUT}; expected the --out folder of personsearch-index") from None
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{root}: its {ABOUT} is not one of personsearch-index; check the folder") from None


def visit_schema(dimensions: int, crops: bool = False) -> Any:
    """A visit's columns. Times are unix seconds; boxes xyxy in pixels of the upright picture; `video` with `video_s`
    (seconds of the file's own time) and `box` show the best view; `embedding` is the mean of the kept views as the
    model made them, L2-normalised and not centred: D little-endian float16 as bytes of fixed size, which are searched
    where they lie; a list would have to be put together number by number."""
    pa = load_arrow()
    box, vector = pa.list_(pa.float32(), 4), pa.list_(pa.float16(), dimensions)
    columns = [
        ("visit", pa.string()), ("camera", pa.string()), ("started", pa.float64()), ("ended", pa.float64()),
        ("video", pa.string()), ("video_s", pa.float64()), ("track", pa.uint32()), ("views", pa.uint16()),
        ("quality", pa.float32()), ("box", box), ("embedding", pa.binary(2 * dimensions)),
        ("view_times", pa.list_(pa.float64())), ("view_qualities", pa.list_(pa.float32())),
        ("view_boxes", pa.list_(box)), ("view_embeddings", pa.list_(vector)),
        *([("crop", pa.binary())] if crops else []),
    ]  # fmt: skip
    return pa.schema(columns)


@dataclass(frozen=True)
class VisitPart:
    """One file of an index."""

    path: Path
    camera: str
    day: str
    count: int

    def blocks(self, first: int = 0, columns: Sequence[str] = ("embedding", "started", "ended")) -> Iterator[
        tuple[int, dict[str, np.ndarray]]
    ]:  # fmt: skip
        """Number of a row, and columns from there on; embeddings (N, D) float16."""
        pa = load_arrow()
        with pa.parquet.ParquetFile(self.path) as file:
            start = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if start + rows > first:
                    table = file.read_row_group(group, columns=list(columns), use_threads=False)
                    yield start, {name: as_numpy(table.column(name)) for name in columns}
                start += rows

    def row(self, number: int) -> dict[str, Any]:
        """One visit, without embeddings."""
        pa = load_arrow()
        with pa.parquet.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if number < rows:
                    names = [n for n in file.schema_arrow.names if not n.startswith("view_") and n != "embedding"]
                    found: dict[str, Any] = file.read_row_group(group, columns=names).slice(number, 1).to_pylist()[0]
                    return found
                number -= rows
        raise OSError(f"{self.path}: ends before that visit")


def as_numpy(column: Any) -> np.ndarray:
    """(N,), or (N, D) of a column of vectors; float16 of one of embeddings."""
    pa = load_arrow()
    array = column.combine_chunks()
    if pa.types.is_fixed_size_binary(array.type):
        width, data = array.type.byte_width, array.buffers()[1]
        halves = np.frombuffer(data, "<f2", len(array) * width // 2, array.offset * width)
        return halves.reshape(-1, width // 2)
    if pa.types.is_fixed_size_list(array.type):
        flat: np.ndarray = array.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, array.type.list_size)
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values


def visit_parts(root: str | Path) -> list[VisitPart]:
    """The files of an index by camera and day; what is no Parquet file raises UserError."""
    pa = load_arrow()
    parts = []
    for path in sorted((Path(root) / VISITS).glob("*/*.parquet")):
        try:
            count = pa.parquet.read_metadata(path).num_rows
        except FileNotFoundError:  # it is being made anew
            continue
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error}); run personsearch-index again") from None
        parts.append(VisitPart(path, path.parent.name, path.stem, count))
    return parts
