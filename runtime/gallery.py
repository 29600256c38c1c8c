"""The enrolled people: names with embeddings of one or several views, in one file without pictures or pickle."""

from __future__ import annotations

import fcntl
import glob
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from personsearch.core.errors import GalleryError

FORMAT = "personsearch-gallery/1"
MAX_NAME, MAX_VIEWS, MAX_BYTES = 200, 200_000, 1 << 30


class Gallery:
    """Names (N,) and embeddings (N, D), one row per view, valid for one model only."""

    def __init__(
        self, model_hash: str, dimensions: int, names: list[str] | None = None, embeddings: np.ndarray | None = None
    ):
        self.model_hash, self.dimensions = model_hash, dimensions
        self.names = names or []
        self.embeddings = np.zeros((0, dimensions), np.float32) if embeddings is None else embeddings
        self._index()

    def _index(self) -> None:
        self.people = sorted(set(self.names))
        position = {name: i for i, name in enumerate(self.people)}
        self._owner = np.array([position[name] for name in self.names], np.int64)

    def similarities(self, embeddings: np.ndarray) -> np.ndarray:
        """(M, D) -> (M, P): each person's best view. P = len(people)."""
        best = np.full((len(embeddings), len(self.people)), -1.0, np.float32)
        if len(self.names) and len(embeddings):
            np.maximum.at(best.T, self._owner, (embeddings @ self.embeddings.T).T)
        return best

    def add(self, name: str, embedding: np.ndarray) -> None:
        name = name.strip()
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise GalleryError(f"a name must have 1 to {MAX_NAME} printable characters, got {name[:40]!r}")
        self.names.append(name)
        self.embeddings = np.concatenate([self.embeddings, embedding.reshape(1, self.dimensions).astype(np.float32)])
        self._index()

    def remove(self, name: str) -> int:
        """Forget a person; gives the number of views removed."""
        keep = [i for i, n in enumerate(self.names) if n != name]
        removed = len(self.names) - len(keep)
        self.names = [self.names[i] for i in keep]
        self.embeddings = self.embeddings[keep]
        self._index()
        return removed

    def save(self, path: str | Path) -> None:
        """Replace the file in one step: a reader, or a crash, sees the old gallery or the new one. Call it `locked`."""
        path = Path(path)
        buffer = io.BytesIO()
        np.savez(
            buffer, format=np.array(FORMAT), model_hash=np.array(self.model_hash),
            names=np.array(self.names, dtype=np.str_).reshape(-1), embeddings=self.embeddings,
        )  # fmt: skip
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):  # by a writer that was killed
                left.unlink(missing_ok=True)
            # Who is enrolled is nobody else's business: readable by the owner only.
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            raise GalleryError(f"{path}: cannot be written ({error.strerror}); the gallery is unchanged") from None
        finally:
            partial.unlink(missing_ok=True)


def load_gallery(path: str | Path, model_hash: str, dimensions: int) -> Gallery:
    """Raises GalleryError for a missing or damaged file, and for a gallery of another model."""
    path = Path(path)
    if path.is_dir():
        raise GalleryError(f"{path}: is a folder; a gallery is one file, for example people.gallery")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GalleryError(f"{path}: larger than {MAX_BYTES} bytes; this is no gallery")
        with zipfile.ZipFile(path) as archive:  # it may claim to be larger inside than outside
            if sum(part.file_size for part in archive.infolist()) > MAX_BYTES:
                raise GalleryError(f"{path}: unpacks to more than {MAX_BYTES} bytes; this is no gallery")
        with np.load(path, allow_pickle=False) as content:
            kind, owner = str(content["format"]), str(content["model_hash"])
            names, embeddings = [str(n) for n in content["names"]], content["embeddings"]
    except FileNotFoundError:
        raise GalleryError(f"{path}: no such gallery; enrol somebody first with runtime/enroll.py") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, MemoryError, RuntimeError) as error:
        raise GalleryError(
            f"{path}: not a readable gallery ({type(error).__name__}); restore a copy or enrol anew"
        ) from None
    if kind != FORMAT:
        raise GalleryError(f"{path}: expected format {FORMAT}, got {kind[:40]!r}")
    if owner != model_hash:
        raise GalleryError(
            f"{path}: was made with model {owner[:16]}, but the bundle is {model_hash}; "
            "embeddings of different models cannot be compared: enrol anew with this bundle"
        )
    good = embeddings.ndim == 2 and embeddings.shape == (len(names), dimensions) and embeddings.dtype == np.float32
    if not good or not np.isfinite(embeddings).all() or len(names) > MAX_VIEWS:
        raise GalleryError(f"{path}: damaged: expected ({len(names)}, {dimensions}) finite float32 embeddings")
    return Gallery(model_hash, dimensions, names, embeddings)


def enrol(path: str | Path, model_hash: str, dimensions: int, name: str, rows: Sequence[np.ndarray]) -> Gallery:
    """Add views (D,) of a person to a gallery file, which is made if it does not exist; gives the gallery."""
    with locked(path):
        gallery = load_gallery(path, model_hash, dimensions) if Path(path).exists() else Gallery(model_hash, dimensions)
        for row in rows:
            gallery.add(name, row)
        gallery.save(path)
    return gallery


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """One writer at a time, across processes."""
    lock = Path(path).with_name(f".{Path(path).name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = open(lock, "w")  # noqa: SIM115 - held open while locked
    except OSError as error:
        raise GalleryError(f"{lock}: cannot be written ({error.strerror})") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
