"""What leaves a box sealed: AES-256-GCM under a key that a group's boxes and the centre hold, and the hub does not."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from personsearch.core.errors import ConfigError
from personsearch.runtime.decisions.gallery_keys import NONCE_BYTES, box_key, fingerprint


class GroupKey:
    """32 bytes that seal what a group shares. `fingerprint` names them without telling them."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.fingerprint = fingerprint(key)

    def seal(self, data: bytes, bound: str) -> bytes:
        """bound  what the data belong to: whoever opens them has to name the same"""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, bound.encode())

    def unseal(self, data: bytes, bound: str) -> bytes:
        """Raises ValueError for what was changed, belongs elsewhere, or was sealed with another key."""
        try:
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound.encode())
        except (InvalidTag, ValueError):
            raise ValueError("damaged, or sealed with another group's key") from None


def load_group_key(where: str) -> GroupKey:
    """The key at `file:PATH`, `env:NAME` or `credential:NAME`. Raises UserError."""
    if not where:
        raise ConfigError("the group's key is not named; set group_key: file:PATH, env:NAME or credential:NAME")
    key = box_key(where)
    assert key is not None  # a place was named
    return GroupKey(key)
