"""The gallery's file: ids, names, views with their sources; no pickle, readable by its owner only.

A change is: lock, read, change, then three files are replaced, each in one step: keys, undo log, gallery. Whatever is
killed between two of them leaves the old gallery or the new one. The two earlier formats are read, and written anew.
"""

from __future__ import annotations

import io
import time
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.errors import GalleryError
from personsearch.core.files import is_mount, real_path, replace_file
from personsearch.core.locks import one_writer
from personsearch.runtime.decisions.gallery import PICTURE, EnrolledView, Gallery, of_length_one, usable
from personsearch.runtime.decisions.gallery_keys import Keyring, box_key, keys_file, load_keyring
from personsearch.runtime.decisions.gallery_record import MAX_SOURCE, packed, unpacked
from personsearch.runtime.decisions.gallery_undo import Change, read_changes, undo_file, write_changes
from personsearch.runtime.decisions.names import person_name
from personsearch.runtime.decisions.person import Person

# The first knew no sources and qualities, the second no ids.
FORMAT, FIRST_FORMAT, SECOND_FORMAT = (f"personsearch-gallery/{number}" for number in (3, 1, 2))
MAX_VIEWS, MAX_BYTES = 200_000, 1 << 30
OWNER_ONLY = 0o600  # who is enrolled is nobody else's business
FORGOTTEN_DAYS = 30.0  # so long a gallery tells programs who was erased


def save_gallery(gallery: Gallery, path: str | Path, revision: str = "") -> None:
    """Replace the file in one step: a reader, or a crash, sees the old gallery or the new one. Call it `locked`.

    revision  names this state; by default a new one. Raises GalleryError.
    """
    gallery.revision = revision or uuid.uuid4().hex
    try:
        replace_file(path, gallery_bytes(gallery, gallery.keyring if gallery.sealed else None), OWNER_ONLY)
    except OSError as error:
        raise _unwritten(path, error) from None


def gallery_bytes(gallery: Gallery, keyring: Keyring | None) -> bytes:
    """The content of a gallery's file, each person sealed if there is a keyring, which then has everybody's key."""
    people = sorted(gallery.everybody().values(), key=lambda person: person.name)
    records = [gallery.record_of(person) or packed(person) for person in people]
    if keyring is not None:
        sealing = zip(people, records, strict=True)
        records = [keyring.seal(person.id, record, gallery.model_hash) for person, record in sealing]
    lately = {i: when for i, when in gallery.forgotten.items() if time.time() - when < FORGOTTEN_DAYS * 86400}
    buffer = io.BytesIO()
    np.savez(
        buffer, format=np.array(FORMAT), model_hash=np.array(gallery.model_hash),
        dimensions=np.array(gallery.dimensions), revision=np.array(gallery.revision),
        sealed=np.array(keyring is not None), ids=np.array([p.id for p in people], dtype=np.str_).reshape(-1),
        ends=np.cumsum([len(record) for record in records], dtype=np.int64).reshape(-1),
        records=np.frombuffer(b"".join(records), np.uint8),
        forgotten=np.array(list(lately), dtype=np.str_).reshape(-1),
        forgotten_at=np.array(list(lately.values()), np.float64),
    )  # fmt: skip
    return buffer.getvalue()


def load_gallery(
    path: str | Path, model_hash: str, dimensions: int, key: str = "", to_write: bool = False
) -> Gallery:  # fmt: skip
    """The people enrolled for this model.

    to_write  keep the bytes of everybody who isn't changed, to be written again
    key  where the box's key is, if the gallery is encrypted (see `box_key`)
    Raises GalleryError for a missing or damaged file, a gallery of another model, and a missing or wrong key.
    """
    path = Path(path)
    content = read_arrays(path)
    kind, owner = str(content["format"]), str(content["model_hash"])
    if kind not in (FORMAT, FIRST_FORMAT, SECOND_FORMAT):
        raise GalleryError(f"{path}: expected format {FORMAT}, got {kind[:40]!r}")
    if owner != model_hash:
        raise GalleryError(
            f"{path}: was made with model {owner[:16]}, but the bundle is {model_hash}; embeddings of different models "
            "cannot be compared: enrol anew with this bundle, or --re-embed where pictures were kept"
        )
    if kind != FORMAT:
        return _earlier(path, content, model_hash, dimensions)
    keyring = None
    if bool(content["sealed"]):
        keyring = load_keyring(keys_file(real_path(path)), box_key(key))
    return gallery_of(path, content, dimensions, keyring, to_write)


def gallery_of(
    path: Path, content: dict[str, Any], dimensions: int, keyring: Keyring | None, to_write: bool = False
) -> Gallery:  # fmt: skip
    """Of a file in the present format. Whoever's key was destroyed is left out. Raises GalleryError."""
    try:
        gallery = Gallery(str(content["model_hash"]), dimensions)
        gallery.revision, gallery.sealed = str(content["revision"]), keyring is not None
        gallery.keyring = keyring
        ids, ends = [str(i) for i in content["ids"].reshape(-1)], content["ends"].reshape(-1).tolist()
        records = content["records"].astype(np.uint8, casting="safe").tobytes()
        if int(content["dimensions"]) != dimensions or len(ids) != len(ends) or [0, *ends] != sorted([0, *ends]):
            raise ValueError(f"expected {dimensions} dimensions and {len(ids)} records in order")
        if (ends[-1] if ends else 0) != len(records):
            raise ValueError(f"expected {len(records)} bytes of records")
        gallery.forgotten = dict(zip(map(str, content["forgotten"]), map(float, content["forgotten_at"]), strict=True))
        for person_id, begin, end in zip(ids, [0, *ends], ends, strict=False):
            record: bytes | None = records[begin:end]
            if keyring is not None and record is not None:
                record = keyring.unseal(person_id, record, gallery.model_hash)
            if record is None:
                continue
            person = unpacked(record, dimensions)
            if person.id != person_id:
                raise ValueError(f"the record of {person_id[:20]} is another one's")
            gallery.put(person)
            if to_write:
                gallery.keep_record(person, record)
    except (KeyError, ValueError, TypeError, GalleryError) as error:
        raise GalleryError(f"{path}: damaged: {error}") from None
    if len(gallery.names) > MAX_VIEWS:
        raise GalleryError(f"{path}: holds {len(gallery.names)} views; at most {MAX_VIEWS} are expected")
    return gallery


def _earlier(path: Path, content: dict[str, Any], model_hash: str, dimensions: int) -> Gallery:
    """Of a file in the first or the second format."""
    if content["names"].dtype.kind != "U" or content["names"].ndim != 1:
        raise GalleryError(f"{path}: damaged: expected a list of names")
    names, embeddings = content["names"].tolist(), content["embeddings"]
    good = embeddings.ndim == 2 and embeddings.shape == (len(names), dimensions) and embeddings.dtype == np.float32
    if not good or not usable(embeddings) or len(names) > MAX_VIEWS:
        raise GalleryError(f"{path}: damaged: expected ({len(names)}, {dimensions}) finite float32 embeddings")
    sources, qualities = _sources(path, content, len(names))
    try:
        names = [person_name(name) for name in names]  # two spellings of one name become one person
    except GalleryError as error:
        raise GalleryError(f"{path}: {error}") from None
    views = [EnrolledView(*row) for row in zip(of_length_one(embeddings), sources, qualities, strict=True)]
    return Gallery(model_hash, dimensions, names, views)


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of the file, of whatever format. Raises GalleryError."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise GalleryError(f"{path}: is {kind}; a gallery is one file, for example people.gallery")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GalleryError(f"{path}: larger than {MAX_BYTES} bytes; this is no gallery")
        with zipfile.ZipFile(path) as archive:  # it may claim to be larger inside than outside
            if sum(part.file_size for part in archive.infolist()) > MAX_BYTES:
                raise GalleryError(f"{path}: unpacks to more than {MAX_BYTES} bytes; this is no gallery")
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
            needed = ("names", "embeddings") if str(arrays["format"]) != FORMAT else ("ids", "ends", "records")
            for name in ("model_hash", *needed):
                arrays[name]
            return arrays
    except FileNotFoundError:
        raise GalleryError(f"{path}: no such gallery; enrol somebody first with personsearch-enroll") from None
    except GalleryError:
        raise
    except Exception as error:  # numpy's parser raises a dozen kinds for a damaged file
        raise GalleryError(
            f"{path}: not a readable gallery ({type(error).__name__}); restore a copy or enrol anew"
        ) from None


def _sources(path: Path, content: dict[str, Any], count: int) -> tuple[list[str], list[float]]:
    """Of each view; of a gallery in the first format, pictures of unknown quality."""
    if str(content["format"]) == FIRST_FORMAT:
        return [PICTURE] * count, [1.0] * count
    try:
        sources = [str(s) for s in content["sources"].reshape(-1)]
        qualities = np.asarray(content["qualities"], np.float64).reshape(-1)
    except (KeyError, ValueError, TypeError):
        raise GalleryError(f"{path}: damaged: expected the source and the quality of each view") from None
    good = len(sources) == len(qualities) == count and ((qualities >= 0) & (qualities <= 1)).all()
    if not good or any(not 0 < len(s) <= MAX_SOURCE for s in sources):
        raise GalleryError(f"{path}: damaged: expected {count} sources, and qualities from 0 to 1")
    return sources, qualities.tolist()


def load_or_begin(
    path: str | Path, model_hash: str, dimensions: int, key: str = "", to_write: bool = False
) -> Gallery:  # fmt: skip
    """The gallery of a file, or a new one where there is none yet; an empty file is what people make to mount it."""
    begun = Path(path).exists() and (Path(path).is_dir() or Path(path).stat().st_size > 0)
    return load_gallery(path, model_hash, dimensions, key, to_write) if begun else Gallery(model_hash, dimensions)


# --- changes --------------------------------------------------------------------------------------------------------


def enrol(
    path: str | Path, model_hash: str, dimensions: int, name: str, views: Sequence[EnrolledView], key: str = ""
) -> Gallery:
    """Add views of a person to a gallery file, which is made if it does not exist; gives the gallery."""
    with changing(path, model_hash, dimensions, "enrolled", key) as gallery:
        for view in views:
            gallery.add(name, view)
    return gallery


@contextmanager
def changing(path: str | Path, model_hash: str, dimensions: int, kind: str, key: str = "") -> Iterator[Gallery]:
    """The gallery of a file, to be changed: afterwards it is written, and what changed can be taken back.

    kind  what is done, in a word, for `undo`. Nothing is written if the block raises or changes nothing.
    Raises GalleryError.
    """
    with locked(path):
        gallery = load_or_begin(path, model_hash, dimensions, key, to_write=True)
        before = gallery.everybody()
        yield gallery
        commit(gallery, path, before, kind, key)
        gallery.forget_records()


def commit(gallery: Gallery, path: str | Path, before: dict[str, Person], kind: str, key: str = "") -> None:
    """Write a gallery that was changed, under the lock: keys, then how to undo it, then itself."""
    after = gallery.everybody()
    changed = [i for i in {**before, **after} if before.get(i) is not after.get(i)]
    if not changed:
        return
    old, new, now = gallery.revision, uuid.uuid4().hex, time.time()
    for person_id in changed:
        if person_id in after:
            packed(after[person_id])  # what cannot be written is said before anything is
    target = real_path(path)
    try:
        if not is_mount(target):  # beside a mounted file nothing can be written, so its changes cannot be undone
            keyring = gallery.keyring or load_keyring(keys_file(target), box_key(key))
            keyring.make([i for i in changed if i in before])
            if gallery.sealed:
                keyring.make(after)
            keyring.retire(after, now)
            if len(keyring) or keyring.path.exists():
                keyring.save()
            records = {i: packed(before[i]) if i in before else None for i in changed}
            people = {i: keyring.seal(i, r, gallery.model_hash) if r is not None else None for i, r in records.items()}
            changes = read_changes(undo_file(target), old)
            write_changes(undo_file(target), [*changes, Change(kind, now, old, new, people)], now)
    except OSError as error:
        raise _unwritten(path, error) from None
    save_gallery(gallery, path, new)


def undo(path: str | Path, model_hash: str, dimensions: int, key: str = "") -> Change:
    """Take the latest change back; gives it. Raises GalleryError if there is none (any more)."""
    with locked(path):
        gallery = load_gallery(path, model_hash, dimensions, key)
        target = real_path(path)
        changes = read_changes(undo_file(target), gallery.revision)
        if not changes:
            raise GalleryError(f"{path}: no change to undo; the last 20 are kept, for 30 days")
        change = changes.pop()
        keyring = gallery.keyring or load_keyring(keys_file(target), box_key(key))
        for person_id in change.people:
            gallery.drop(person_id)
        for person_id, sealed in change.people.items():
            record = keyring.unseal(person_id, sealed, model_hash) if sealed is not None else None
            if record is not None:
                gallery.put(unpacked(record, dimensions))
        save_gallery(gallery, path, change.before)
        try:
            write_changes(undo_file(target), changes, time.time())
        except OSError as error:
            raise GalleryError(f"{path}: the change is undone, but {undo_file(target)}: {error.strerror}") from None
    return change


def _unwritten(path: str | Path, error: OSError) -> GalleryError:
    return GalleryError(f"{path}: cannot be written ({error.strerror}); the gallery is unchanged")


def begin_gallery(path: str | Path, model_hash: str, dimensions: int) -> None:
    """Make the file with nobody in it, if there is none. Raises GalleryError."""
    if not Path(path).exists() or (Path(path).is_file() and not Path(path).stat().st_size):
        with locked(path):
            save_gallery(load_or_begin(path, model_hash, dimensions), path)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """One writer at a time, across processes, by whatever name they reach the file. Raises GalleryError."""
    with ExitStack() as held:
        try:
            held.enter_context(one_writer(path))
        except OSError as error:
            raise GalleryError(f"{path}: cannot be written ({error.strerror})") from None
        yield
