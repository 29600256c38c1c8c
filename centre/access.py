"""Who may ask the centre: keys with scopes. A key is 32 random bytes, so a plain hash of it is kept and no password.

The file is JSON, readable by its owner: {"keys": {"desk": {"scopes": ["search"], "hash": "SHA-256 in hex"}}}.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from personsearch.core.config import Settings
from personsearch.core.errors import ConfigError, UserError
from personsearch.core.files import Reread, read_file
from personsearch.core.json_text import parse_json
from personsearch.core.locks import changing_entries

Scope = Literal["search", "people", "health"]
SCOPES: tuple[Scope, ...] = ("search", "people", "health")
MOST_BYTES = 16 << 20  # of the file
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
PREFIX = "psc_"  # so that scanners for leaked secrets can know it


class KeyEntry(Settings):
    scopes: tuple[Scope, ...] = Field(min_length=1)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


class KeysFile(Settings):
    keys: dict[str, KeyEntry]


@dataclass(frozen=True)
class Caller:
    name: str
    scopes: frozenset[Scope]


class Keys(Reread[KeyEntry]):
    """By name. A damaged file is a ConfigError: it lets nobody in."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path), load_keys)

    def caller(self, token: str) -> Caller | None:
        """Whose token this is; every entry is compared, in constant time."""
        given, found = _hash(token), None
        for name, entry in self.all().items():
            if hmac.compare_digest(given, entry.hash):
                found = Caller(name, frozenset(entry.scopes))
        return found


def load_keys(path: Path) -> dict[str, KeyEntry]:
    try:
        return KeysFile.model_validate(parse_json(read_file(path, MOST_BYTES))).keys
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(
            f"{path}: not a readable file of keys ({reason}); remove it and make keys anew with "
            "personsearch-centre add-key"
        ) from None


def add_key(path: str | Path, name: str, scopes: tuple[Scope, ...]) -> str:
    """Gives the token, which is shown once and not kept. Raises UserError."""
    path = Path(path)
    if not NAME.fullmatch(name):
        raise UserError(f"'{name[:64]}': a key's name has letters, digits, . _ and - only")
    token = PREFIX + secrets.token_urlsafe(32)
    with _changing(path) as keys:
        if name in keys:
            raise UserError(f"{path}: there is a key '{name}' already; remove it first, or choose another name")
        keys[name] = KeyEntry(scopes=tuple(dict.fromkeys(scopes)), hash=_hash(token))
    return token


def remove_key(path: str | Path, name: str) -> None:
    path = Path(path)
    with _changing(path) as keys:
        if name not in keys:
            raise UserError(f"{path}: there is no key '{name[:64]}'; known: {', '.join(sorted(keys)) or 'none'}")
        del keys[name]


def _changing(path: Path) -> contextlib.AbstractContextManager[dict[str, KeyEntry]]:
    return changing_entries(path, load_keys, lambda keys: KeysFile(keys=keys).model_dump())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
