"""One camera's visits of one day, made with one model: a header, and records of one size.

    DAY/CAMERA.MODEL.visits   512 bytes of JSON, then a record a visit: 112 bytes and two for each dimension
    DAY/CAMERA.MODEL.crops    JPEG files one after the other, if crops are wanted; a record says where

Records are appended; one that is cut off by a crash is no record, and a checksum tells a torn one. Erasing overwrites
with zeros, so that the bytes are gone from the file: a hole of zeros is no record either. Whoever writes holds the
history's lock (store.py); readers need none.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json

FORMAT, VISITS, CROPS = "personsearch-visits/1", ".visits", ".crops"
HEADER_BYTES, MAX_DIMENSIONS = 512, 8192
OWNER_ONLY = 0o600
CHECKED = 4  # bytes of a record in front of those that its checksum covers
BLOCK = 1024  # records read at once: what a core's cache holds


class NoVisits(UserError):
    """A file that is not what its name says."""


@dataclass(frozen=True)
class Header:
    """model  hash of the bundle that made the embeddings"""

    model: str
    dimensions: int
    camera: str

    @property
    def file_name(self) -> str:
        return f"{self.camera}.{self.model[:16]}{VISITS}"

    @property
    def record(self) -> np.dtype[Any]:
        """A visit in bytes. Times are unix seconds; `box` (xyxy, pixels of the upright picture) is the best view's;
        `embedding` is the mean of the views as the model made it, L2-normalised and not centred."""
        return np.dtype([
            ("checksum", "<u4"), ("sighting", "S18"), ("person", "S14"), ("stranger", "S24"), ("started", "<f8"),
            ("ended", "<f8"), ("track", "<u4"), ("views", "<u2"), ("quality", "<f2"), ("box", "<f4", (4,)),
            ("crop_at", "<u8"), ("crop_bytes", "<u4"), ("embedding", "<f2", (self.dimensions,)),
        ])  # fmt: skip

    def encoded(self) -> bytes:
        return (json.dumps({"format": FORMAT, **asdict(self)}) + "\n").encode().ljust(HEADER_BYTES)


def day_of(moment: float) -> str:
    """Unix seconds -> the day's folder, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def sealed(records: np.ndarray) -> bytes:
    """(N,) records as bytes with their checksums."""
    for record in records.reshape(-1):
        record["checksum"] = zlib.crc32(record.tobytes()[CHECKED:])
    return records.tobytes()


def sound(record: np.void) -> bool:
    """Was this record written whole, and not erased?"""
    return bool(record["ended"] != 0 and record["checksum"] == zlib.crc32(record.tobytes()[CHECKED:]))


class VisitFile:
    """A file for reading, and for erasing. Raises NoVisits if it has no header of ours, OSError if it is not there."""

    def __init__(self, path: Path, writing: bool = False) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR if writing else os.O_RDONLY)
        try:
            self.header = _header(path, os.pread(self._descriptor, HEADER_BYTES, 0))
        except BaseException:
            os.close(self._descriptor)
            raise
        self.record = self.header.record
        self.count = max(0, os.fstat(self._descriptor).st_size - HEADER_BYTES) // self.record.itemsize

    def __enter__(self) -> VisitFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def _at(self, number: int) -> int:
        return HEADER_BYTES + number * self.record.itemsize

    def blocks(self, first: int = 0, last: int | None = None, buffer: np.ndarray | None = None) -> Iterator[
        tuple[int, np.ndarray]
    ]:  # fmt: skip
        """Numbers of records and the records from there on, erased and torn ones too; the buffer is used again for each
        block. (`pread` and no map: a file that gets shorter meanwhile would end the process.)"""
        memory = np.empty(BLOCK, self.record) if buffer is None else buffer
        end = self.count if last is None else min(last, self.count)
        while first < end:
            wanted = memory[: min(BLOCK, end - first)]
            done = os.preadv(self._descriptor, [wanted.view(np.uint8)], self._at(first))  # type: ignore[list-item]
            whole = done // self.record.itemsize
            if not whole:
                return
            yield first, wanted[:whole]
            first += whole

    def read(self, number: int) -> np.void:
        """One record. Raises OSError if it is not there any more."""
        data = os.pread(self._descriptor, self.record.itemsize, self._at(number))
        if len(data) < self.record.itemsize:
            raise OSError(f"{self.path}: ends before record {number}")
        found: np.void = np.frombuffer(data, self.record).copy()[0]
        return found

    def write(self, number: int, record: np.void) -> None:
        """Put another record in its place."""
        _write_all(self._descriptor, sealed(np.array([record], self.record)), self._at(number))

    def erase(self, numbers: Iterable[int]) -> int:
        """Overwrite records, and their crops, with zeros; gives how many. On the disk when it returns."""
        numbers = list(numbers)
        crops = [self.read(number) for number in numbers]
        with contextlib.suppress(FileNotFoundError), open(self.path.with_suffix(CROPS), "r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for record in crops:
                start, length = int(record["crop_at"]), int(record["crop_bytes"])
                if length and start + length <= size:
                    _write_all(file.fileno(), bytes(length), start)
            os.fsync(file.fileno())
        for number in numbers:
            _write_all(self._descriptor, bytes(self.record.itemsize), self._at(number))
        if numbers:
            os.fsync(self._descriptor)
        return len(numbers)

    def crop(self, record: np.void) -> bytes:
        """The JPEG that was kept with a visit; empty if there is none."""
        start, length = int(record["crop_at"]), int(record["crop_bytes"])
        if not length:
            return b""
        with contextlib.suppress(OSError), open(self.path.with_suffix(CROPS), "rb") as file:
            file.seek(start)
            return file.read(length)
        return b""


def append(folder: Path, header: Header, rows: Sequence[np.void], crops: Sequence[bytes]) -> list[int]:
    """Add visits to a camera's file of a day, which is made if need be; gives the numbers of their records.

    Raises OSError for a full or read-only disk; the files are then as they were. Damaged ones are put aside.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / header.file_name
    records = np.array(rows, header.record)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size >= HEADER_BYTES:
            try:
                _header(path, os.pread(descriptor, HEADER_BYTES, 0))
            except NoVisits:
                put_aside(path)
                return append(folder, header, rows, crops)
        whole = max(0, size - HEADER_BYTES) // records.itemsize  # a record that was cut off is written over
        end = HEADER_BYTES + whole * records.itemsize
        pictures = _size(path.with_suffix(CROPS))
        try:
            if any(crops):
                _append_crops(path.with_suffix(CROPS), records, crops)
            data = sealed(records)
            if size < HEADER_BYTES:
                _write_all(descriptor, header.encoded() + data, 0)
            else:
                _write_all(descriptor, data, end)
            os.ftruncate(descriptor, end + len(data))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end if size >= HEADER_BYTES else 0)
                os.truncate(path.with_suffix(CROPS), pictures)  # nobody could erase a crop that no record knows
            raise
    finally:
        os.close(descriptor)
    return list(range(whole, whole + len(records)))


def _append_crops(path: Path, records: np.ndarray, crops: Sequence[bytes]) -> None:
    """Add pictures, and say in the records where. Without room a visit has none: without its crop it is still one."""
    with open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, OWNER_ONLY)) as file:
        end = os.fstat(file.fileno()).st_size
        for record, crop in zip(records, crops, strict=True):
            try:
                done = file.write(crop)
            except OSError:
                done = 0
            if done == len(crop):
                record["crop_at"], record["crop_bytes"] = end, len(crop)
                end += len(crop)
            else:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), end)


def cut_crops(path: Path) -> None:
    """Remove crops at the end that no record of this file knows: a stream was killed between both. Raises OSError."""
    crops, end = path.with_suffix(CROPS), 0
    if not crops.exists():
        return
    with VisitFile(path) as file:
        for _, block in file.blocks():
            end = max(end, int((block["crop_at"] + block["crop_bytes"]).max()))
    if _size(crops) > end:
        os.truncate(crops, end)


def put_aside(path: Path) -> None:
    """A damaged file of visits and its crops: they go with their day."""
    mark = f".damaged-{time.time_ns()}"
    os.replace(path, f"{path}{mark}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path.with_suffix(CROPS), f"{path.with_suffix(CROPS)}{mark}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write_all(descriptor: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:  # a disk that gets full takes a part first
        done = os.pwrite(descriptor, view, place)
        view, place = view[done:], place + done


def _header(path: Path, data: bytes) -> Header:
    try:
        content = parse_json(data)
        header = Header(str(content["model"]), int(content["dimensions"]), str(content["camera"]))
        if content["format"] != FORMAT or not 0 < header.dimensions <= MAX_DIMENSIONS:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise NoVisits(f"{path}: not a readable history of visits; it is left alone until its time is over") from None
    return header
