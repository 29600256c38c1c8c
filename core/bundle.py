"""The bundle: a directory that holds everything a deployment needs, checked by hashes before use."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from personsearch.core.config import Settings, Whole
from personsearch.core.errors import BundleError
from personsearch.core.files import flush_to_disk, is_mount, real_path
from personsearch.core.json_files import faults_of
from personsearch.core.json_text import parse_json
from personsearch.core.odds import Odds

SCHEMA = 1
MANIFEST = "manifest.json"
MODEL, EMBED = "model.onnx", "embed.onnx"
OUTPUTS = ("boxes", "scores", "embeddings", "count")
PRECISIONS = ("fp32", "fp16", "int8")  # graphs that a bundle can hold
# Names of inner tensors of the model graph, in the order of the data's way. An engine may cut the graph there.
CUT_FEATURE = "roi_feature"  # what RoIAlign pools; absent where it pools the image itself
CUT_PROPOSALS = ("proposals", "proposal_logits")
CUT_POOLING = ("roi_columns", "roi_rows")
CUT_CROPS = "roi_crops"  # what RoIAlign gives
CUT_VECTORS = "roi_vectors"
CUT_EMBEDDINGS = "roi_embeddings"  # of the proposals; absent where they are the outputs already
CUT_REFINED = "refined_vectors"  # only where the final boxes are pooled once more


def graph_file(precision: str) -> str:
    """File of the model's graph: bf16 is a way to run the float32 graph, the others are graphs of their own."""
    return MODEL if precision in ("fp32", "bf16") else f"model.{precision}.onnx"


# Larger numbers would only ask for more memory than there is.
Side = Annotated[Whole, Field(ge=1, le=16384)]
Count = Annotated[Whole, Field(ge=1, le=65536)]


class FileEntry(Settings):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: Annotated[Whole, Field(ge=0)]


class Threshold(Settings):
    """A similarity threshold and the share of pairs of different people that reach it on the calibration data."""

    similarity: float = Field(ge=-1, le=1)
    false_alarm_rate: float = Field(ge=0, le=1)


class Manifest(Settings):
    schema_version: Whole
    name: str
    created: str  # ISO 8601, UTC
    height: Side
    width: Side
    batch: Count
    dimensions: Count
    detections: Count  # K, rows of the fixed-size outputs
    embed_boxes: Count  # boxes per call of the embedding graph
    min_score: float = Field(ge=0, le=1)  # working point of the detector
    score: Literal["head", "fused", "rpn"] = "head"  # what a final score is made of, see `least_proposal_score`
    # all: people are described where they are found. demand: finding is cheap and describing is not, so a runtime
    # describes a person when it matters.
    describe: Literal["all", "demand"] = "all"
    checkpoint_sha256: str
    files: dict[str, FileEntry]
    thresholds: tuple[Threshold, ...] = ()
    engine_thresholds: dict[str, tuple[Threshold, ...]] = Field(default={})  # by engine name
    calibration: str = ""  # where the thresholds come from
    odds: Odds | None = None  # of centred tracks against people enrolled in other cameras, see `core/odds.py`
    avoid: tuple[str, ...] = ()  # engines that lost too much accuracy: `auto` does not choose them
    training_data: tuple[str, ...] = ()  # sources with their licences
    licence: str = ""

    @property
    def model_hash(self) -> str:
        """Identifies the embedding space: galleries and events carry it."""
        return self.files[MODEL].sha256[:16]

    def least_proposal_score(self, min_score: float) -> float:
        """The RPN score below which a proposal cannot end with `min_score`: its embedding need not be computed."""
        return {"head": 0.0, "fused": min_score**2, "rpn": min_score}[self.score]

    def threshold(self, false_alarm_rate: float = 0.01, engine: str = "") -> float:
        """The calibrated similarity whose rate is nearest below, or 0.5 for a bundle without calibration.

        engine  `Engine.name`; an engine without thresholds of its own gets those of the float32 model
        """
        thresholds = self.engine_thresholds.get(engine) or self.thresholds
        fitting = [t for t in thresholds if t.false_alarm_rate <= false_alarm_rate + 1e-12]
        return max(fitting, key=lambda t: t.false_alarm_rate).similarity if fitting else 0.5


def sha256_of(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(folder: str | Path, verify: bool = True) -> Manifest:
    """The checked manifest of a bundle. Raises BundleError for a missing, foreign or damaged bundle."""
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        content = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"{folder}: not a bundle ({MANIFEST} is missing); personsearch-export makes one") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON ({error}); export the bundle again") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise BundleError(f"{path}: expected schema version {SCHEMA}, got {version}; export the bundle again")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise BundleError(faults_of(path, error)) from None
    for name in (MODEL, EMBED):
        if name not in manifest.files:
            raise BundleError(f"{path}: lists no {name}; export the bundle again")
    if verify:
        for name, entry in manifest.files.items():
            check_file(folder, name, entry)
    return manifest


def check_file(folder: Path, name: str, entry: FileEntry) -> None:
    path = folder / name
    if Path(name).name != name:
        raise BundleError(f"{folder}: the manifest names a file outside the bundle: {name!r}")
    if not path.is_file():
        raise BundleError(f"{path}: listed in the manifest, but missing; export the bundle again")
    if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
        raise BundleError(f"{path}: its hash differs from the manifest's: the file is damaged or was changed")


def check_place(folder: str | Path) -> Path:
    """Where a bundle may be written: the end of symbolic links. Raises BundleError if something would be lost there."""
    try:
        place = real_path(folder)
        bundle = (place / MANIFEST).is_file()
        other = place.exists() and not bundle and (not place.is_dir() or any(place.iterdir()))
    except OSError as error:
        raise BundleError(f"{folder}: cannot be used ({error.strerror})") from None
    if is_mount(place):
        raise BundleError(f"{folder}: is a mount, which cannot be replaced in one step; write to a folder in it")
    if other:
        raise BundleError(f"{folder}: holds something else than a bundle, which would be lost; choose a new folder")
    return place


def write_bundle(folder: str | Path, staging: str | Path, manifest: dict) -> Manifest:
    """Hash the files in `staging`, write the manifest beside them, and put the folder in place in one step.

    A reader sees the existing bundle or the new one, also after a crash or on a full disk: `staging` must lie on the
    same file system. Raises BundleError, and leaves what is there alone, where that fails or where no bundle may be
    written (`check_place`).
    """
    folder, staging = check_place(folder), Path(staging)
    try:
        files = {
            p.name: {"sha256": sha256_of(p), "bytes": p.stat().st_size}
            for p in sorted(staging.iterdir())
            if p.name != MANIFEST
        }
        checked = Manifest.model_validate({**manifest, "schema_version": SCHEMA, "files": files})
        (staging / MANIFEST).write_text(json.dumps(checked.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
        for path in (*staging.iterdir(), staging):
            flush_to_disk(path)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            _exchange(staging, folder)
        else:
            os.replace(staging, folder)
        flush_to_disk(folder.parent)
    except OSError as error:
        raise BundleError(
            f"{folder}: cannot be written ({error.strerror}); nothing was changed, free the space or choose another "
            "folder"
        ) from None
    shutil.rmtree(staging, ignore_errors=True)  # the previous bundle after an exchange
    return checked


def _exchange(new: Path, current: Path) -> None:
    """Swap two folders atomically with Linux's renameat2; elsewhere in two steps."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if rename(here, os.fsencode(new), here, os.fsencode(current), exchange) == 0:
            return
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    aside = current.with_name(f".{current.name}.old-{os.getpid()}")
    os.replace(current, aside)
    try:
        os.replace(new, current)
    except OSError:
        os.replace(aside, current)
        raise
    os.replace(aside, new)
