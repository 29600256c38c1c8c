"""Keys of the gallery: one random key per person, wrapped by the box's key where there is one.

What is sealed with a person's key (the undo log, backups, and the gallery itself if it is encrypted) is gone for good
when that key is destroyed, wherever copies of it lie. So the keys are in a file of their own beside the gallery,
`people.gallery.keys`, which must stay out of ordinary backups. AES-256-GCM of `cryptography` throughout.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field

from personsearch.core.errors import GalleryError
from personsearch.core.files import read_file, replace_file
from personsearch.core.json_files import read_record

FORMAT = "personsearch-keys/1"
KEY_BYTES, NONCE_BYTES = 32, 12
MOST_BYTES = 1 << 16  # of a file with a key
KEEP_RETIRED_DAYS = 30.0  # keys of people who were taken out (not forgotten): undo and backups need them
VARIABLE, CREDENTIAL = "PERSONSEARCH_BOX_KEY", "personsearch-box-key"  # where a key is looked for if none is named
WAYS = f"file:PATH, env:NAME or credential:NAME (or ${VARIABLE}, or the systemd credential {CREDENTIAL})"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    key: str = Field(max_length=200)
    retired: float = Field(0.0, ge=0)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: str
    box: str = ""  # fingerprint of the box's key; empty: keys are not wrapped
    people: dict[str, _Entry]


class Keyring:
    """Keys by id. `box_key` is None while they are not wrapped."""

    def __init__(self, path: Path, box_key: bytes | None = None) -> None:
        self.path, self.box_key = path, box_key
        self.retired: dict[str, float] = {}  # id -> unix seconds since when nobody of that id is enrolled
        self._keys: dict[str, bytes] = {}

    def __contains__(self, person_id: str) -> bool:
        return person_id in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def make(self, ids: Iterable[str]) -> None:
        """A key for each that has none yet."""
        for person_id in ids:
            self._keys.setdefault(person_id, secrets.token_bytes(KEY_BYTES))

    def destroy(self, person_id: str) -> bool:
        """Whether there was a key. Call `save` afterwards."""
        self.retired.pop(person_id, None)
        return self._keys.pop(person_id, None) is not None

    def retire(self, enrolled: Iterable[str], now: float) -> None:
        """Whoever is not enrolled any more keeps the key for 30 days, so that undo and backups work that long."""
        there = set(enrolled)
        self.retired = {i: self.retired.get(i, now) for i in self._keys if i not in there}
        for person_id in [i for i, since in self.retired.items() if now - since > KEEP_RETIRED_DAYS * 86400]:
            self.destroy(person_id)

    def seal(self, person_id: str, data: bytes, model_hash: str) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self._keys[person_id]).encrypt(nonce, data, _bound(person_id, model_hash))

    def unseal(self, person_id: str, data: bytes, model_hash: str) -> bytes | None:
        """None if the key was destroyed. Raises GalleryError for data that was changed."""
        key = self._keys.get(person_id)
        if key is None:
            return None
        try:
            return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _bound(person_id, model_hash))
        except (InvalidTag, ValueError):
            raise GalleryError(f"the record of {person_id} is damaged or was sealed with another key") from None

    def save(self) -> None:
        """Replace the file in one step. Raises OSError."""
        wrap = AESGCM(self.box_key) if self.box_key is not None else None
        people = {}
        for person_id, key in self._keys.items():
            nonce = secrets.token_bytes(NONCE_BYTES)
            kept = nonce + wrap.encrypt(nonce, key, person_id.encode()) if wrap is not None else key
            entry: dict[str, object] = {"key": base64.b64encode(kept).decode()}
            people[person_id] = entry | ({"retired": self.retired[person_id]} if person_id in self.retired else {})
        box = fingerprint(self.box_key) if self.box_key is not None else ""
        text = json.dumps({"format": FORMAT, "box": box, "people": people}, indent=0)
        replace_file(self.path, text.encode(), 0o600)


def keys_file(gallery: str | Path) -> Path:
    """people.gallery -> people.gallery.keys"""
    return Path(f"{gallery}.keys")


def load_keyring(path: Path, box_key: bytes | None) -> Keyring:
    """An empty one if there is no file. Raises GalleryError for a damaged one, and if the box's key is missing or
    another one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Keyring(path, None)
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror})") from None
    content = read_record(path, data, _File, GalleryError)
    if content.format != FORMAT:
        raise GalleryError(f"{path}: expected format {FORMAT}, got {content.format[:40]!r}")
    if content.box and box_key is None:
        raise GalleryError(f"{path}: is encrypted with the box's key {content.box}; name it: {WAYS}")
    if content.box and box_key is not None and fingerprint(box_key) != content.box:
        raise GalleryError(f"{path}: is encrypted with the box's key {content.box}, not with {fingerprint(box_key)}")
    ring = Keyring(path, box_key if content.box else None)
    unwrap = AESGCM(box_key) if content.box and box_key is not None else None
    for person_id, entry in content.people.items():
        try:
            kept = base64.b64decode(entry.key, validate=True)
            if unwrap is not None:
                kept = unwrap.decrypt(kept[:NONCE_BYTES], kept[NONCE_BYTES:], person_id.encode())
            if len(kept) != KEY_BYTES:
                raise ValueError
        except (ValueError, InvalidTag, binascii.Error):
            raise GalleryError(f"{path}: damaged: the key of {person_id[:40]} is none; restore a copy") from None
        ring._keys[person_id] = kept
        if entry.retired:
            ring.retired[person_id] = min(entry.retired, time.time())
    return ring


def fingerprint(key: bytes) -> str:
    """Names a key without telling it."""
    return hashlib.sha256(b"personsearch box key" + key).hexdigest()[:12]


def _bound(person_id: str, model_hash: str) -> bytes:
    return f"personsearch {person_id} {model_hash}".encode()


# --- the box's key --------------------------------------------------------------------------------------------------


def box_key(where: str = "") -> bytes | None:
    """The key at `file:PATH`, `env:NAME` or `credential:NAME`; without a place, where one usually is, or None.

    A key is 32 bytes as they are, or as 64 hexadecimal digits, or in base64. Raises GalleryError.
    """
    if not where:
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if os.environ.get(VARIABLE):
            where = f"env:{VARIABLE}"
        elif folder and (Path(folder) / CREDENTIAL).exists():
            where = f"credential:{CREDENTIAL}"
        else:
            return None
    kind, _, name = where.partition(":")
    try:
        if kind == "file" and name:
            data = read_file(os.path.expanduser(name), MOST_BYTES)
        elif kind == "env" and name:
            data = os.fsencode(os.environ[name])
        elif kind == "credential" and name and "/" not in name:
            data = read_file(Path(os.environ["CREDENTIALS_DIRECTORY"]) / name, MOST_BYTES)
        else:
            raise GalleryError(f"the box's key: expected where it is, not the key itself: {WAYS}")
    except KeyError as missing:
        raise GalleryError(f"the box's key {where}: the environment has no {missing.args[0]}") from None
    except OSError as error:
        raise GalleryError(f"the box's key {where}: cannot be read ({error.strerror})") from None
    return parse_key(data, where)


def parse_key(data: bytes, where: str) -> bytes:
    if len(data) == KEY_BYTES:
        return data
    text = data.strip()
    if re.fullmatch(rb"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text.decode())
    try:
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise GalleryError(f"the box's key {where}: expected {KEY_BYTES} bytes, as they are, in hexadecimal or base64")
    return key


def make_box_key(where: str) -> bytes:
    """The box's key, which is made and written (readable by its owner only) if `file:PATH` is not there yet."""
    kind, _, name = where.partition(":")
    path = Path(os.path.expanduser(name))
    if kind == "file" and name and not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, f"{secrets.token_hex(KEY_BYTES)}\n".encode(), 0o600)
        except OSError as error:
            raise GalleryError(f"{path}: cannot be written ({error.strerror}); nothing was encrypted") from None
    key = box_key(where)
    if key is None:
        raise GalleryError(f"name the box's key: {WAYS}")
    return key
