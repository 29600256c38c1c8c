"""Files that ship with the project: the bundle and the presets. A wheel carries them as well as a checkout."""

from __future__ import annotations

import contextlib
from importlib.resources import files
from pathlib import Path

from personsearch.core.errors import ConfigError

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


def begin_config(example: str, path: Path, option: str) -> None:
    """The commented `example` (`configs/cams.yaml`) as a new file.

    option  by which the caller was given the name
    Raises ConfigError if there is a file of this name, or the folder takes none.
    """
    text = shipped(example).read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already; give {option} another file name") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); choose a folder that takes files") from None
