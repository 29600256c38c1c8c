"""ZeroMQ endpoints: what may be bound, and which need IPv6."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from typing import TextIO

import zmq

from personsearch.core.errors import UserError
from personsearch.core.redaction import cut

WHY = {
    "EADDRINUSE": "is another stream running? Choose another {key}, for example tcp://127.0.0.1:5566",
    "ENODEV": "this machine has no such address; give one of its own in {key}, for example tcp://127.0.0.1:5556",
    "EACCES": "this user may not; choose a port above 1023 or another folder in {key}",
}
OTHERWISE = "expected tcp://ADDRESS:PORT (IPv6 in brackets: tcp://[::1]:5556) or ipc://PATH in {key}"


def needs_ipv6(endpoint: str) -> bool:
    """Whether a tcp:// endpoint is an IPv6 address, or a name that has no other. (With IPv6 switched on for all, a name
    such as localhost would lead to its IPv6 address, where an IPv4 publisher is not heard.)"""
    if not endpoint.startswith("tcp://"):
        return False
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    if host.startswith("[") or ":" in host:
        return True
    try:
        families = {found[0] for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False  # an interface, *, or a name that is not known (yet)
    return socket.AF_INET6 in families and socket.AF_INET not in families


def connect(zmq_socket: zmq.Socket, endpoint: str) -> None:
    """Raises UserError for what is no endpoint to connect to: ZeroMQ itself takes ports that nobody can have, and waits
    there for ever."""
    scheme, _, rest = endpoint.partition("://")
    host, _, port = rest.rpartition(":")
    reason = ""
    if scheme == "tcp" and "@" in rest:
        reason = "has a user or a password, which an endpoint has not"
    elif scheme == "tcp" and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        reason = "has no port from 1 to 65535"
    try:
        if not reason:
            zmq_socket.connect(endpoint)
    except (zmq.ZMQError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
    if reason:
        shown = cut(endpoint)
        raise UserError(
            f"{shown}: not an endpoint to connect to ({reason}); expected tcp://HOST:PORT, tcp://[IPV6]:PORT or ipc://PATH"
        )


def reachable(endpoint: str) -> str:
    """An endpoint to bind as one to connect to from the same machine. Raises UserError for a port that is not fixed."""
    if endpoint.endswith((":*", ":0")):
        raise UserError(f"{endpoint}: no port to connect to; give publish.endpoint a number, or --connect and --replay")
    for everywhere, here in (("tcp://*:", "tcp://127.0.0.1:"), ("tcp://0.0.0.0:", "tcp://127.0.0.1:"),
                             ("tcp://[::]:", "tcp://[::1]:")):  # fmt: skip
        endpoint = endpoint.replace(everywhere, here)
    return endpoint


def bind(zmq_socket: zmq.Socket, endpoint: str, key: str) -> TextIO | None:
    """Bind a socket, and give the lock to be kept open as long as it is bound. Raises UserError that names `key`, the
    setting, if that cannot be, or another program listens there."""
    lock = _claim(endpoint, key) if endpoint.startswith("ipc://") else None
    try:
        zmq_socket.bind(endpoint)
    except zmq.ZMQError as error:
        if lock is not None:
            lock.close()
        name = next((name for name in WHY if error.errno == getattr(zmq, name, getattr(os, name, None))), "")
        advice = WHY.get(name, OTHERWISE).format(key=key)
        raise UserError(f"cannot publish on {endpoint}: {error.strerror}; {advice}") from None
    return lock


def _claim(endpoint: str, key: str) -> TextIO | None:
    """ZeroMQ removes whatever lies under the name of an ipc:// socket, be it a file or a socket in use, and binds: so
    look first. A socket that a killed program left behind may be replaced."""
    path = endpoint.removeprefix("ipc://")
    if path in ("", "*") or path.startswith("@"):  # unnamed and abstract ones are not files
        return None
    taken = f"cannot publish on {endpoint}: it is in use; {WHY['EADDRINUSE'].format(key=key)}"
    with contextlib.ExitStack() as held:
        try:
            lock = held.enter_context(open(f"{path}.lock", "a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.lexists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
                raise UserError(f"cannot publish on {endpoint}: a file of this name exists; choose another {key}")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(2)
                if probe.connect_ex(path) == 0:
                    raise UserError(taken)
        except BlockingIOError:
            raise UserError(taken) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"cannot publish on {endpoint}: {reason}; {OTHERWISE.format(key=key)}") from None
        held.pop_all()  # the lock stays
        return lock
