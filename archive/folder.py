"""The folder of an index: held by one process at a time, made with one model and one set of options."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personsearch.archive.parts import FOLDER, OWNER_ONLY, PARTS, about_part
from personsearch.core.bundle import Manifest
from personsearch.core.errors import UserError
from personsearch.core.files import replace_file, wipe
from personsearch.core.json_text import parse_json
from personsearch.core.locks import only_one
from personsearch.runtime.history.index_file import ABOUT, FORMAT


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds the index. Raises UserError while another process does."""
    taken = "another process writes this index; wait for it, or give another --out"
    with only_one(out / ".lock", taken, "give another --out", FOLDER):
        yield


def begin(out: Path, manifest: Manifest, settings: dict[str, Any]) -> None:
    """index.json, or that it is the same. Raises UserError if the index was made in another way."""
    settings = json.loads(json.dumps(settings))
    content = {
        "format": FORMAT, "model": manifest.model_hash, "dimensions": manifest.dimensions, "settings": settings
    }  # fmt: skip
    path = out / ABOUT
    if path.exists():
        try:
            known = dict(parse_json(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            raise UserError(f"{path}: cannot be read; give another --out") from None
        if known != content:
            was, wanted = {**known, **known.get("settings", {})}, {**content, **settings}
            key = next(k for k in (*wanted, *was) if k != "settings" and was.get(k) != wanted.get(k))
            short = f"{key} {str(was.get(key))[:40]}, not {str(wanted.get(key))[:40]}"
            raise UserError(f"{out}: was made with {short}; give another --out, or the same options as then")
        return
    if any(p.name != ".lock" for p in out.iterdir()):
        raise UserError(f"{out}: is a folder with other things in it; give an empty or new one")
    replace_file(path, json.dumps(content, indent=1).encode() + b"\n", OWNER_ONLY)


def prune(out: Path, keys: set[str], unreadable: set[str]) -> None:
    """Erase the parts of videos that are not there; those that cannot be read just now are."""
    for folder in (out / PARTS).iterdir():
        names = {about_part(path)["video"] for path in folder.glob("*.parquet")}
        if folder.name not in keys and not names & unreadable:
            for path in folder.iterdir():
                wipe(path)
            folder.rmdir()
