"""Who may use the page: users with argon2id hashes, signed sessions, and a limit on attempts to log in.

The users' file is JSON, readable by its owner: {"users": {"ada": {"role": "operator", "hash": "$argon2id$..."}}}.
While nobody has a password, the page listens on loopback only and lets in who knows the key that the stream's log
shows: other users of the machine reach loopback as well, so an open page would be open to them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import Field

from personsearch.core.config import Settings
from personsearch.core.errors import ConfigError, UserError
from personsearch.core.files import Reread, read_file
from personsearch.core.json_text import parse_json
from personsearch.core.locks import changing_entries

Role = Literal["viewer", "operator"]
MOST_BYTES = 16 << 20  # of the file
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
LEAST_LETTERS, MOST_LETTERS = 10, 1024
SESSION_S = 12 * 3600.0
CONSOLE = "console"  # the user who came by the key in the log
ATTEMPTS, ATTEMPTS_S = 5, 60.0  # failures of one address in that time; then it waits
ALL_ATTEMPTS = 30  # of all addresses together
_hasher = PasswordHasher()


class UserEntry(Settings):
    role: Role
    hash: str = Field(max_length=1000)


class UsersFile(Settings):
    users: dict[str, UserEntry]


class Users(Reread[UserEntry]):
    """By name. A damaged file is a ConfigError: it lets nobody in."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path), load_users)

    def check(self, name: str, password: str) -> UserEntry | None:
        """Takes tens of milliseconds and 64 MB; None for a wrong name or password."""
        entry = self.all().get(name)
        try:
            _hasher.verify(entry.hash if entry else _nobody(), password[:MOST_LETTERS])
        except (VerificationError, InvalidHashError):
            return None
        return entry


@cache
def _nobody() -> str:
    """Verified when a name is unknown, so that an answer takes as long as for a known one."""
    return _hasher.hash(secrets.token_hex(16))


def load_users(path: Path) -> dict[str, UserEntry]:
    try:
        return UsersFile.model_validate(parse_json(read_file(path, MOST_BYTES))).users
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(
            f"{path}: not a readable file of users ({reason}); remove it and set passwords anew with "
            "personsearch-page-password"
        ) from None


def set_password(path: str | Path, name: str, password: str, role: Role) -> None:
    """Add a user or replace the password. Raises UserError for a name that is none, and for a short password."""
    path = Path(path)
    if not NAME.fullmatch(name):
        raise UserError(f"'{name[:64]}': a user's name has letters, digits, . _ and - only")
    if not LEAST_LETTERS <= len(password) <= MOST_LETTERS:
        raise UserError(f"a password has at least {LEAST_LETTERS} characters, this one {len(password)}; try a sentence")
    entry = UserEntry(role=role, hash=_hasher.hash(password))
    with _changing(path) as users:
        users[name] = entry


def remove_user(path: str | Path, name: str) -> None:
    path = Path(path)
    with _changing(path) as users:
        if name not in users:
            raise UserError(f"{path}: there is no user '{name[:64]}'; known: {', '.join(sorted(users)) or 'none'}")
        del users[name]


def _changing(path: Path) -> contextlib.AbstractContextManager[dict[str, UserEntry]]:
    return changing_entries(path, load_users, lambda users: UsersFile(users=users).model_dump())


@dataclass(frozen=True)
class Session:
    name: str
    role: Role
    until: float  # wall clock
    number: str


class Sessions:
    """Signed by a secret that the stream makes at its start and gives to each page process, so that they outlive a
    killed one. A changed password or role ends a user's sessions."""

    def __init__(self, users: Users, secret: bytes, console_key: str, revoked: set[str]) -> None:
        self.users, self._secret, self.console_key, self.revoked = users, secret, console_key, revoked

    def open(self, name: str, now: float) -> str:
        """A cookie's value for a user who has proved to be one."""
        body = json.dumps([name, int(now + SESSION_S), secrets.token_hex(8)]).encode()
        return _text(body) + "." + _text(self._sign(body, self._stamp(name)))

    def read(self, cookie: str, now: float) -> Session | None:
        """None for a forged, expired, revoked or outdated one."""
        with contextlib.suppress(ValueError, TypeError):
            body, signature = (base64.urlsafe_b64decode(part + "==") for part in cookie.split("."))
            name, until, number = parse_json(body)
            good = hmac.compare_digest(signature, self._sign(body, self._stamp(name)))
            role = self._role(name)
            if good and role is not None and now < until and number not in self.revoked:
                return Session(name, role, until, number)
        return None

    def enter(self, key: str) -> bool:
        """By the key in the log, while nobody has a password."""
        return self.first and hmac.compare_digest(key.encode(), self.console_key.encode())

    @property
    def first(self) -> bool:
        """Does nobody have a password?"""
        return not self.users.all()

    def _role(self, name: str) -> Role | None:
        if name == CONSOLE and self.first:
            return "operator"
        entry = self.users.all().get(name)
        return entry.role if entry else None

    def _stamp(self, name: str) -> bytes:
        entry = self.users.all().get(name)
        return (entry.hash + entry.role).encode() if entry else b""

    def _sign(self, body: bytes, stamp: bytes) -> bytes:
        return hmac.new(self._secret, hashlib.sha256(stamp).digest() + body, hashlib.sha256).digest()


class Attempts:
    """Failed log-ins of the last minute, by address and in all."""

    def __init__(self) -> None:
        self._failed: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until this address may try again, 0 for now."""
        with self._lock:
            self._failed = [(t, a) for t, a in self._failed if now - t < ATTEMPTS_S]
            own = [t for t, a in self._failed if a == address]
            for times, most in ((own, ATTEMPTS), ([t for t, _ in self._failed], ALL_ATTEMPTS)):
                if len(times) >= most:
                    return max(0.1, ATTEMPTS_S - (now - times[-most]))
        return 0.0

    def failed(self, address: str, now: float) -> None:
        with self._lock:
            self._failed.append((now, address))


def new_secrets() -> tuple[bytes, str]:
    """For sessions, and the key that the log shows."""
    return secrets.token_bytes(32), secrets.token_urlsafe(18)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
