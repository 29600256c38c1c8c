"""A box as its users run it: enroll.py, stream.py and subscribe.py as programs of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from personsearch.core.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent


def run(*command: object) -> str:
    """What a program of the repository prints. Raises UserError with its last words if it fails."""
    result = subprocess.run(
        [sys.executable, *map(str, command)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise UserError(f"{command[0]} ended with {result.returncode}: {result.stderr.strip()[-400:]}")
    return result.stdout


def enrol(bundle: str, gallery: Path, name: str, picture: str | Path, box: Any) -> None:
    """One view of a person, however poor: the box (x1, y1, x2, y2) of a picture."""
    x1, y1, x2, y2 = box
    run("runtime/enroll.py", "--bundle", bundle, "--gallery", gallery, "--name", name, "--image", picture,
        "--box", f"{x1},{y1},{x2 - x1},{y2 - y1}", "--force")  # fmt: skip


def hear_matches(folder: Path, settings: dict[str, Any], record: str = "") -> tuple[list[dict[str, Any]], str]:
    """Stream until the cameras end: the match events in their order, and what stream.py printed.

    folder    a short path for sockets and what is heard
    settings  cams.yaml without `publish`
    """
    endpoint = f"ipc://{folder}/events"
    publish = {"endpoint": endpoint, "replay": f"ipc://{folder}/replay"}
    (folder / "cams.yaml").write_text(yaml.safe_dump({**settings, "publish": publish}), encoding="utf-8")
    heard = folder / "events.jsonl"
    with open(heard, "w") as file:
        listener = subprocess.Popen(
            [sys.executable, "runtime/subscribe.py", "--connect", endpoint, "--topic", "match.", "--json"],
            cwd=REPOSITORY, stdout=file, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            log = run("runtime/stream.py", "--cams", folder / "cams.yaml", *(["--record", record] if record else []))
            time.sleep(1.0)  # the socket's last events
        finally:
            listener.terminate()  # (where this runs in a shell's background, SIGINT is ignored)
            listener.wait()
    return [json.loads(line) for line in heard.read_text().splitlines()], log
