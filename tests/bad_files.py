"""Files that are wrong in the ways that users' files are, made from good ones when a test asks for them."""

from __future__ import annotations

import json
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch

NOISE = random.Random(5).randbytes(3000)
GARBAGE = {"empty": b"", "zeros": bytes(600), "noise": NOISE, "text": b"these are not the bytes\n" * 9}


def garbage(good: bytes, count: int = 2) -> dict[str, bytes]:
    """What can happen to any file: nothing in it, something else in it, cut off."""
    cut = {f"cut to {i} of {count + 1}": good[: len(good) * i // (count + 1)] for i in range(1, count + 1)}
    return {**GARBAGE, **cut}


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def pictures() -> dict[str, bytes]:
    image = np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8)
    jpeg = bytearray(cv2.imencode(".jpg", image)[1].tobytes())
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size], jpeg[size + 2] = 0xFF, 0xFF  # height and width, 65360 x 65340
    return {
        **garbage(cv2.imencode(".png", image)[1].tobytes()),
        "JPEG with flipped size bits": bytes(jpeg),
        "PNG of 1.2 gigapixels": png_claiming(40_000, 30_000),
        "PNG of no pixels": png_claiming(0, 0),
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + NOISE,
        "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + NOISE,
        "a video": b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + NOISE,
        "a web page": b"<!DOCTYPE html><html>403</html>",
    }


def people(**changes: object) -> dict:
    """A good people.json of one picture, with changes to its first person, or with `camera` or `query` changed."""
    person = {"box": [1, 2, 30, 40], "identity": 7} | {k: v for k, v in changes.items() if k in ("box", "identity")}
    images = [
        {"file": "a.jpg", "camera": changes.get("camera", 1), "split": split, "people": [person]}
        for split in ("train", "test")
    ]
    query = {"file": "a.jpg", "box": [1, 2, 30, 40], "identity": 7} | (changes.get("query") or {})  # type: ignore[operator]
    return {"images": images, "queries": [query]}


NUMBERS = [float("nan"), float("inf"), 1e20, 1.5, -3, True, "7", 10**30, [7], {}]


def people_files() -> dict[str, bytes]:
    good = json.dumps(people()).encode()
    files = garbage(good)
    for value in NUMBERS:
        files[f"identity {value!r}"] = json.dumps(people(identity=value)).encode()
        files[f"identity {value!r} of a query"] = json.dumps(people(query={"identity": value})).encode()
        if value != -3:
            files[f"camera {value!r}"] = json.dumps(people(camera=value)).encode()
    for value in [*NUMBERS[:3], True, "7", None, -5, 10**30]:
        files[f"width {value!r}"] = json.dumps(people(box=[1, 2, value, 40])).encode()
        files[f"width {value!r} of a query"] = json.dumps(people(query={"box": [1, 2, value, 40]})).encode()
    files |= {
        "UTF-16": good.decode().encode("utf-16"),
        "images twice": good[:-1] + b', "images": []}',
        "deep": b"[" * 50_000,
        "a list": b"[]",
        "null": b"null",
        "box of three": json.dumps(people(box=[1, 2, 3])).encode(),
        "an empty query": json.dumps(people(query={"box": [1, 2, 0, 40]})).encode(),
    }
    return files


def checkpoints(good: Path, place: Path) -> dict[str, Path]:
    """Checkpoint files in `place`; `good` is one that works."""
    content = torch.load(good, weights_only=True)
    name = next(k for k, v in content["model"].items() if v.is_floating_point())
    variants: dict[str, object] = {
        "a list": [1, 2],
        "nothing": {},
        "only weights": content["model"],
        "no configuration": {**content, "config": None},
        "no weights": {**content, "model": None},
        "weights that are text": {**content, "model": {name: "x"}},
        "a weight that is no number": {**content, "model": {**content["model"], name: content["model"][name] * np.nan}},
        "a weight too few": {**content, "model": {k: v for k, v in content["model"].items() if k != name}},
        "a weight of another shape": {**content, "model": {**content["model"], name: torch.zeros(1, 2)}},
        "a size that is no number": {**content, "config": {**content["config"], "model": {"height": float("nan")}}},
        "a size that is huge": {**content, "config": {**content["config"], "model": {"height": 1e20}}},
        "code": {**content, "model": Path("x")},
    }
    files = {}
    for number, (kind, value) in enumerate(variants.items()):
        files[kind] = place / f"{number}.pth"
        torch.save(value, files[kind])
    for kind, data in garbage(good.read_bytes()).items():
        files[kind] = place / f"{kind}.pth"
        files[kind].write_bytes(data)
    files["a folder"] = place / "folder.pth"
    files["a folder"].mkdir()
    files["missing"] = place / "missing.pth"
    return files


def manifests(good: dict) -> dict[str, bytes]:
    files = {k: v for k, v in garbage(json.dumps(good).encode()).items() if k != "missing"}
    for field in ("height", "batch", "dimensions", "detections", "min_score", "schema_version"):
        for value in (float("nan"), 1e20, -1, True, "x", None, 10**12):
            if not (field == "schema_version" and value is True):
                files[f"{field} {value!r}"] = json.dumps({**good, field: value}).encode()
    files["no files"] = json.dumps({**good, "files": {}}).encode()
    files["a file outside"] = json.dumps(
        {**good, "files": {**good["files"], "../x": good["files"]["model.onnx"]}}
    ).encode()
    files["a list"] = b"[]"
    return files
