"""What lies around a stream: the files that it reads and writes, the disk, the ports. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import zmq

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import UserError
from personsearch.runtime.cameras.urls import kind_of
from personsearch.runtime.decisions.gallery_file import load_gallery
from personsearch.runtime.delivery.endpoints import bind, needs_ipv6
from personsearch.runtime.delivery.publisher import next_endpoint
from personsearch.runtime.settings import StreamSettings

Found = tuple[str, Literal["ok", "note", "problem"], str]
SLOW_DISK_S = 0.05


def look_at_files(settings: StreamSettings, bundle: Path) -> Iterator[Found]:
    """Raises BundleError, when all else was looked at, if the gallery cannot be compared with the bundle."""
    if settings.journal.path:
        yield from _folder(Path(settings.journal.path).absolute().parent, "journal.path", settings.journal.max_mb)
        with contextlib.suppress(OSError):
            if Path(settings.journal.path).exists() and not os.access(settings.journal.path, os.R_OK | os.W_OK):
                yield "files", "problem", f"journal.path {settings.journal.path}: this user may not write it"
    if settings.publish.keys:
        secret = Path(settings.publish.keys) / "server.key_secret"
        if not secret.is_file():
            yield "files", "problem", f"publish.keys: {secret} is missing; make it with personsearch-keys server"
        elif secret.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            yield "files", "problem", f"publish.keys: others may read {secret}; chmod 600 it"
    for camera in settings.cameras:
        device = f"/dev/video{camera.url}" if camera.url.isdigit() else camera.url
        if kind_of(camera.url) == "webcam" and os.path.exists(device) and not os.access(device, os.R_OK | os.W_OK):
            yield "files", "problem", f"camera {camera.name}: this user may not open {device}; add it to group video"
    if not settings.gallery:
        yield "files", "note", "no gallery is named; the stream needs one (--gallery), personsearch-enroll makes it"
        return
    manifest = read_manifest(bundle, verify=False)
    yield from _gallery(Path(settings.gallery), manifest.model_hash, manifest.dimensions, settings.gallery_key)


def _gallery(path: Path, model_hash: str, dimensions: int, key: str) -> Iterator[Found]:
    try:
        gallery = load_gallery(path, model_hash, dimensions, key)
    except UserError as error:
        yield "files", "problem", str(error)
        return
    yield "files", "ok" if gallery.people else "problem", f"gallery: {len(gallery.people)} people are enrolled"
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield "files", "note", f"gallery: others on this machine may read {path}; chmod 600 it"
    yield from _folder(path.absolute().parent, "gallery", 10)


def _folder(folder: Path, key: str, wanted_mb: float) -> Iterator[Found]:
    """Whether a file can be made there, how quickly it reaches the disk, and the room left."""
    if not folder.is_dir():
        yield "disk", "problem", f"{key}: {folder} is no folder; make it"
        return
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".personsearch-doctor-") as file:
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            took = time.perf_counter() - began
    except OSError as error:
        yield "disk", "problem", f"{key}: {folder} takes no file ({error.strerror}); change its owner or choose another"
        return
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < wanted_mb:
        yield "disk", "problem", f"{key}: {free_mb:.0f} MB are free in {folder}, up to {wanted_mb:.0f} are wanted"
    else:
        yield "disk", "ok", f"{key}: {free_mb / 1000:.1f} GB are free in {folder}"
    if took > SLOW_DISK_S:
        yield "disk", "note", f"{key}: {folder} needs {1000 * took:.0f} ms to keep a block; power_safe would be slow"


def look_at_ports(settings: StreamSettings) -> Iterator[Found]:
    """Binds ports and lets them go again; an ipc:// name is only looked at, since binding leaves a lock behind that
    may belong to the wrong user. A port in use is right while a stream runs."""
    publish, port = settings.publish, settings.operations.port
    context = zmq.Context()
    sockets = []
    try:
        endpoint = publish.endpoint
        for key in ("publish.endpoint", "publish.replay"):
            if key == "publish.replay":
                endpoint = publish.replay or next_endpoint(endpoint, publish.endpoint)
            if endpoint.startswith("ipc://"):
                yield _ipc(endpoint, key)
                continue
            taken = context.socket(zmq.ROUTER)
            sockets.append(taken)
            taken.setsockopt(zmq.LINGER, 0)
            taken.setsockopt(zmq.IPV6, int(needs_ipv6(endpoint)))
            try:
                bind(taken, endpoint, key)
            except UserError as error:
                yield "ports", "problem", f"{error} (if your stream runs just now, this is right)"
            else:
                yield "ports", "ok", f"{key} {endpoint} is free"
                endpoint = taken.getsockopt_string(zmq.LAST_ENDPOINT)
        if port:
            other = context.socket(zmq.ROUTER)
            sockets.append(other)
            try:
                other.bind(f"tcp://127.0.0.1:{port}")
                yield "ports", "ok", f"operations.port {port} is free"
            except zmq.ZMQError as error:
                yield "ports", "problem", f"operations.port {port}: {error.strerror}; choose another, or stop what runs"
    finally:
        for used in sockets:
            used.close(0)
        context.term()


def _ipc(endpoint: str, key: str) -> Found:
    path = Path(endpoint.removeprefix("ipc://"))
    if path.name == "*" or str(path).startswith("@"):
        return "ports", "ok", f"{key} {endpoint} is no file"
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        return "ports", "problem", f"{key} {endpoint}: this user may make no file in {path.absolute().parent}"
    if not path.exists():
        return "ports", "ok", f"{key} {endpoint} is free"
    if not path.is_socket():
        return "ports", "problem", f"{key} {endpoint}: a file of this name exists; choose another"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        if probe.connect_ex(str(path)) == 0:
            return "ports", "problem", f"{key} {endpoint} is in use (if your stream runs just now, this is right)"
    return "ports", "ok", f"{key} {endpoint} was left behind by a stream that has ended"
