"""Files that ship with the project: the bundle and the presets. A wheel carries them as well as a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

PACKAGE = "personsearch"


def shipped(name: str) -> Path:
    """`models/edge` or `configs/edge.yaml` -> its path, whether this is a checkout or an installed wheel."""
    room, _, rest = name.partition("/")
    return Path(str(files(f"{PACKAGE}.{room}") / rest))


def here_or_shipped(name: str | Path) -> Path:
    """`name` if it is there, else what ships under that name: `configs/paper.yaml` is found outside a checkout too.

    What is nowhere is given back as it came, for the reader's own error.
    """
    path = Path(name)
    if path.exists() or path.parts[:1] not in (("configs",), ("models",)):
        return path
    there = shipped(path.as_posix())
    return there if there.exists() else path
