#!/usr/bin/env python
"""Keys for encrypted delivery (CURVE): who may read the events of a box.

  personsearch-keys server --keys keys           make the box's own key pair (once)
  personsearch-keys client NAME --keys keys      make a subscriber's key pair and let it in
  personsearch-keys list --keys keys             who may read
  personsearch-keys remove NAME --keys keys      let it in no more (from its next connection on)

Set `publish.keys: keys` in cams.yaml. A subscriber needs two files: its own NAME.key_secret and the box's server.key.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import zmq
import zmq.auth
from zmq.utils import z85

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

log = logging.getLogger("personsearch.keys")
KEY_BYTES, MOST_BYTES = 32, 1 << 16  # of a key, and of a file of keys
SERVER, CLIENTS = "server", "clients"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Guard:
    """Lets in the clients whose public keys lie in FOLDER/clients; counts the others. Keys may come and go."""

    def __init__(self, folder: str | Path) -> None:
        """Raises UserError if the server's secret key is missing or unusable."""
        self.folder = Path(folder)
        self.refused = 0
        self._public, self._secret = load_key(self.folder / f"{SERVER}.key_secret", secret=True)
        self._known: dict[bytes, str] = {}
        self._stamp = 0
        self._next_look = 0.0
        self._thread: ThreadAuthenticator | None = None

    def start(self, context: zmq.Context) -> None:
        from zmq.auth.thread import ThreadAuthenticator  # with asyncio, which nothing else in the stream needs

        self._thread = ThreadAuthenticator(context, log=logging.getLogger("personsearch.keys.zap"))
        self._thread.log.setLevel(logging.CRITICAL)  # it would log every refused key: we count and say it sparingly
        self._thread.start()
        self._thread.configure_curve_callback(domain="*", credentials_provider=self)

    def protect(self, socket: zmq.Socket) -> None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._public)

    def callback(self, domain: str, key: bytes) -> bool:
        """Called by the authenticator with a client's public key (Z85)."""
        known = self.clients()
        if key in known:
            return True
        self.refused += 1
        log.warning("refused a subscriber with an unknown key (%d so far)", self.refused)
        return False

    def clients(self) -> dict[bytes, str]:
        """Public key -> name; read again when the folder has changed."""
        folder = self.folder / CLIENTS
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + 0.2
            stamp = folder.stat().st_mtime_ns if folder.is_dir() else 0
            if stamp != self._stamp:
                try:
                    self._known = dict(self._read(sorted(folder.glob("*.key"))))
                    self._stamp = stamp
                except OSError as error:  # no descriptors: look again
                    log.warning("the subscribers' keys cannot be read again: %s", error)
        return self._known

    @staticmethod
    def _read(files: list[Path]) -> Iterator[tuple[bytes, str]]:
        for file in files:
            try:
                yield load_key(file)[0], file.stem
            except UserError as error:  # the other clients go on
                log.warning("%s", error)

    def stop(self) -> None:
        if self._thread:
            self._thread.stop()
            self._thread = None


def load_key(path: str | Path, secret: bool = False) -> tuple[bytes, bytes]:
    """Public and secret key (empty if the file holds none). Raises UserError."""
    try:
        found = os.stat(path)
        if stat.S_ISCHR(found.st_mode) or found.st_size > MOST_BYTES:  # /dev/zero has no end
            raise ValueError
        public, hidden = zmq.auth.load_certificate(path)
        for key in (public, hidden):
            if key and len(z85.decode(key)) != KEY_BYTES:
                raise ValueError
    except (OSError, ValueError, LookupError, struct.error):
        raise UserError(f"{path}: no key there; make one with personsearch-keys") from None
    if secret and not hidden:
        raise UserError(f"{path}: holds no secret key; expected the file NAME.key_secret")
    return public or b"", hidden or b""


def identify(socket: zmq.Socket, keys: tuple[bytes, bytes, bytes]) -> None:
    """As a client. keys: public and secret key of ours, and the server's public one."""
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys[0])
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys[1])
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys[2])


def make_pair(folder: Path, name: str) -> Path:
    """NAME.key and NAME.key_secret (readable by the owner only) in the folder; gives the latter."""
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}': a name has letters, digits, - and _ only")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / f"{name}.key_secret").exists():
        raise UserError(f"{folder / name}.key_secret: exists already; remove it first to replace it")
    before = os.umask(0o077)
    made = False
    try:
        secret = Path(zmq.auth.create_certificates(folder, name)[1])
        made = True
        return secret
    finally:
        if not made:  # half a pair, on a full disk, would be taken for a whole one
            for file in (f"{name}.key", f"{name}.key_secret"):
                (folder / file).unlink(missing_ok=True)
        os.umask(before)


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("action", choices=("server", "client", "list", "remove"))
    parser.add_argument("name", nargs="?", default="", help="of the client")
    parser.add_argument("--keys", default="keys", help="folder of the keys")
    arguments = parser.parse_args()
    folder, clients = Path(arguments.keys), Path(arguments.keys) / CLIENTS
    if arguments.action in ("client", "remove") and not NAME.fullmatch(arguments.name):
        raise UserError(f"{arguments.action}: give the client's name, of letters, digits, - and _ only")
    try:
        if arguments.action == "server":
            make_pair(folder, SERVER)
            clients.mkdir(exist_ok=True)
            print(f"made {folder}/server.key (for subscribers) and {folder}/server.key_secret (stays here)")
        elif arguments.action == "client":
            load_key(folder / f"{SERVER}.key")
            secret = make_pair(folder, arguments.name)
            clients.mkdir(exist_ok=True)
            os.replace(folder / f"{arguments.name}.key", clients / f"{arguments.name}.key")
            print(f"{arguments.name} may read now; give it {secret} and {folder}/server.key over a safe way")
        elif arguments.action == "list":
            load_key(folder / f"{SERVER}.key")
            for file in sorted(clients.glob("*.key")):
                print(f"{file.stem}\t{load_key(file)[0].decode()}")
        else:
            if not (clients / f"{arguments.name}.key").exists():
                raise UserError(f"'{arguments.name}' has no key in {clients}; `list` shows who has")
            (clients / f"{arguments.name}.key").unlink()
            (folder / f"{arguments.name}.key_secret").unlink(missing_ok=True)
            print(f"{arguments.name} may not connect any more")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
