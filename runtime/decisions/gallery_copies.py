"""Copies of a gallery: backups (sealed with the people's keys, so that forgetting reaches them), exports and imports
(plain, or sealed as a whole with a key of their own), and the same people for another model."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from personsearch.core.errors import GalleryError
from personsearch.core.files import is_mount, real_path, replace_file
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.gallery_file import (
    FORMAT,
    OWNER_ONLY,
    commit,
    gallery_bytes,
    gallery_of,
    load_gallery,
    load_or_begin,
    locked,
    read_arrays,
    save_gallery,
)
from personsearch.runtime.decisions.gallery_keys import (
    NONCE_BYTES,
    Keyring,
    box_key,
    keys_file,
    load_keyring,
    make_box_key,
)
from personsearch.runtime.decisions.gallery_record import packed
from personsearch.runtime.decisions.person import Crop, EnrolledView, Person

SEALED = b"personsearch-sealed-export/1\n"


@dataclass
class Brought:
    """What an import or a restore brought: names, and ids of people who were left out because they were forgotten."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    forgotten: int = 0


def backup(path: str | Path, model_hash: str, dimensions: int, to: str | Path, key: str = "") -> int:
    """Write a copy in which each person is sealed with his own key; gives the number of people. Raises GalleryError."""
    with locked(path):
        gallery = load_gallery(path, model_hash, dimensions, key)
        keyring = gallery.keyring or load_keyring(keys_file(_beside(path)), box_key(key))
        keyring.make(gallery.everybody())
        try:
            keyring.save()
            replace_file(to, gallery_bytes(gallery, keyring), OWNER_ONLY)
        except OSError as error:
            raise GalleryError(f"{to}: the backup cannot be written ({error.strerror})") from None
    return len(gallery.people)


def restore(path: str | Path, model_hash: str, dimensions: int, copy: str | Path, key: str = "") -> Brought:
    """Make the gallery what it was at a backup. Whoever was forgotten since stays forgotten. Raises GalleryError."""
    content = read_arrays(Path(copy))
    if str(content["format"]) != FORMAT or not bool(content["sealed"]):
        raise GalleryError(f"{copy}: is no backup; an exported gallery is taken in with --import")
    if str(content["model_hash"]) != model_hash:
        raise GalleryError(f"{copy}: was made with model {str(content['model_hash'])[:16]}, the bundle is {model_hash}")
    with locked(path):
        gallery = load_or_begin(path, model_hash, dimensions, key)
        keyring = gallery.keyring or load_keyring(keys_file(_beside(path)), box_key(key))
        then = gallery_of(Path(copy), content, dimensions, keyring).everybody()
        now = gallery.everybody()
        brought = Brought(forgotten=len(content["ids"]) - len(then))
        brought.removed = [now[i].name for i in now if i not in then]
        same = {i for i in then if i in now and packed(now[i]) == packed(then[i])}
        for person_id in now.keys() - same:
            gallery.drop(person_id)
        for person_id, person in then.items():
            if person_id not in same:
                gallery.put(person)
                (brought.changed if person_id in now else brought.added).append(person.name)
        commit(gallery, path, now, "restored", key)
    return brought


def export(path: str | Path, model_hash: str, dimensions: int, to: str | Path, key: str = "", seal: str = "") -> int:
    """Write all people as one file for another box, sealed with the key at `seal` if one is named. Forgetting does not
    reach it. Gives the number of people. Raises GalleryError."""
    gallery = load_gallery(path, model_hash, dimensions, key)
    data = gallery_bytes(gallery, None)
    if seal:
        nonce = secrets.token_bytes(NONCE_BYTES)
        data = SEALED + nonce + AESGCM(make_box_key(seal)).encrypt(nonce, data, SEALED)
    try:
        replace_file(to, data, OWNER_ONLY)
    except OSError as error:
        raise GalleryError(f"{to}: the export cannot be written ({error.strerror})") from None
    return len(gallery.people)


def take_in(
    path: str | Path, model_hash: str, dimensions: int, file: str | Path, key: str = "", seal: str = ""
) -> Brought:
    """People of an exported gallery: new ones are added; those who are here already, by id, get the views that are
    missing, and keep their names. Raises GalleryError if a name belongs to two different people."""
    coming = _exported(Path(file), model_hash, dimensions, seal)
    brought = Brought()
    with locked(path):
        gallery = load_or_begin(path, model_hash, dimensions, key)
        before = gallery.everybody()
        for person in coming.everybody().values():
            ours = before.get(person.id)
            if person.id in gallery.forgotten:
                brought.forgotten += 1
            elif ours is None:
                if person.name in gallery:
                    raise GalleryError(
                        f"{file}: '{person.name}' is {person.id}, but here {gallery.id_of(person.name)} has that name; "
                        "--rename one of them first; nothing was imported"
                    )
                gallery.put(person)
                brought.added.append(person.name)
            elif (more := _joined(ours, person)) is not ours:
                gallery.put(more)
                brought.changed.append(ours.name)
        commit(gallery, path, before, "imported", key)
    return brought


def _joined(ours: Person, theirs: Person) -> Person:
    """Our record with the views that only theirs has."""
    views = _missing(ours.views, theirs.views)
    negatives = _missing(ours.negatives, theirs.negatives)
    if not views and not negatives:
        return ours
    return replace(ours, views=(*ours.views, *views), negatives=(*ours.negatives, *negatives))


def _missing(ours: tuple[EnrolledView, ...], theirs: tuple[EnrolledView, ...]) -> list[EnrolledView]:
    known = {view.embedding.tobytes() for view in ours}
    return [view for view in theirs if view.embedding.tobytes() not in known]


def _exported(file: Path, model_hash: str, dimensions: int, seal: str) -> Gallery:
    try:
        with open(file, "rb") as handle:
            sealed = handle.read(len(SEALED)) == SEALED
            rest = handle.read() if sealed else b""
    except OSError as error:
        raise GalleryError(f"{file}: cannot be read ({error.strerror})") from None
    if sealed:
        key = box_key(seal) if seal else None
        if key is None:
            raise GalleryError(f"{file}: is sealed; name its key with --export-key")
        try:
            data = AESGCM(key).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], SEALED)
        except (InvalidTag, ValueError):
            raise GalleryError(f"{file}: is damaged, or sealed with another key than {seal}") from None
        with os.fdopen(os.memfd_create("import"), "w+b") as plain:  # it never touches a disk
            plain.write(data)
            plain.flush()
            return load_gallery(f"/proc/self/fd/{plain.fileno()}", model_hash, dimensions)
    content = read_arrays(file)
    if bool(content.get("sealed", False)):
        raise GalleryError(f"{file}: is a backup, or an encrypted gallery; only its own box can read it (--restore)")
    return load_gallery(file, model_hash, dimensions)


def encrypt(path: str | Path, model_hash: str, dimensions: int, key: str) -> int:
    """Seal each person with a key of his own, and those keys with the box's, which is made if it is a file that is not
    there yet. Gives the number of people. Raises GalleryError."""
    secret = make_box_key(key)
    with locked(path):
        gallery = load_gallery(path, model_hash, dimensions, key)
        keyring = gallery.keyring or load_keyring(keys_file(_beside(path)), secret)
        keyring.box_key = secret
        keyring.make(gallery.everybody())
        _save_keys(keyring)  # before what they are needed for
        gallery.keyring, gallery.sealed = keyring, True
        save_gallery(gallery, path, gallery.revision)
    return len(gallery.people)


def decrypt(path: str | Path, model_hash: str, dimensions: int, key: str = "") -> int:
    """Back to a plain file; keys are kept for undo and backups, no longer wrapped. Raises GalleryError."""
    with locked(path):
        gallery = load_gallery(path, model_hash, dimensions, key)
        keyring = gallery.keyring or load_keyring(keys_file(_beside(path)), box_key(key))
        if keyring.box_key is None:
            raise GalleryError(f"{path}: is not encrypted")
        gallery.sealed = False
        save_gallery(gallery, path, gallery.revision)
        keyring.box_key = None
        _save_keys(keyring)
    return len(gallery.people)


def _save_keys(keyring: Keyring) -> None:
    try:
        keyring.save()
    except OSError as error:
        raise GalleryError(f"{keyring.path}: cannot be written ({error.strerror}); nothing was changed") from None


def _beside(path: str | Path) -> Path:
    """The real file. Raises GalleryError where no other file can be kept beside it."""
    target = real_path(path)
    if is_mount(target):
        raise GalleryError(f"{path}: is a mounted file, beside which keys cannot be kept; mount its folder instead")
    return target


# --- for another model ------------------------------------------------------------------------------------------------

Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]  # picture BGR uint8, boxes (N, 4) xyxy -> (N, D)


def re_embed(
    path: str | Path, to: str | Path, model_hash: str, dimensions: int, embed: Embed, key: str = ""
) -> tuple[Gallery, list[str]]:
    """The people of a gallery for another model, written to a new file, as far as pictures of them were kept. Gives
    the new gallery, and the names of those who must be enrolled anew. The old one stays as it is. Raises GalleryError.
    """
    if Path(to).exists():
        raise GalleryError(f"{to}: exists already; give a new file, which takes the old one's place afterwards")
    content = read_arrays(Path(path))
    size = int(content["dimensions"]) if "dimensions" in content else int(np.shape(content["embeddings"])[-1])
    old = load_gallery(path, str(content["model_hash"]), size, key)
    new, anew = Gallery(model_hash, dimensions), []
    for person in old.everybody().values():
        views = _all_again(person.views, embed)
        negatives = _all_again(person.negatives, embed)
        if views:
            new.put(replace(person, views=views, negatives=negatives))
        else:
            anew.append(person.name)
    with locked(to):
        save_gallery(new, to)
    return new, sorted(anew)


def _all_again(views: tuple[EnrolledView, ...], embed: Embed) -> tuple[EnrolledView, ...]:
    return tuple(view for old in views if (view := _again(old, embed)) is not None)


def _again(view: EnrolledView, embed: Embed) -> EnrolledView | None:
    picture = read_crop(view.crop) if view.crop is not None else None
    if picture is None or view.crop is None:
        return None
    (row,) = embed(picture, np.array([view.crop.box], np.float32))
    return replace(view, embedding=np.asarray(row, np.float32))


def read_crop(crop: Crop) -> np.ndarray | None:
    """uint8 (h, w, 3) BGR; None for a damaged picture."""
    from cv2 import IMREAD_COLOR, imdecode

    picture: np.ndarray | None = imdecode(np.frombuffer(crop.jpeg, np.uint8), IMREAD_COLOR)
    return picture
