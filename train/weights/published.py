"""A published model: a folder with `model.safetensors`, `config.json` and a model card, as model hubs hold them.

The folder is a checkpoint without training state: everything that takes a checkpoint takes it as well.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from personsearch.core.bundle import sha256_of
from personsearch.core.errors import CheckpointError
from personsearch.core.files import flush_to_disk
from personsearch.core.json_text import parse_json
from personsearch.train.state import read_safetensors

FORMAT = "personsearch-model/1"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def is_published(path: str | Path) -> bool:
    return (Path(path) / CONFIG).is_file() and (Path(path) / WEIGHTS).is_file()


def weights_file(path: str | Path) -> Path:
    """The file that holds the weights: of a published folder, or the checkpoint itself."""
    return Path(path) / WEIGHTS if is_published(path) else Path(path)


def write_published(
    out: str | Path, state: dict[str, Tensor], config: dict[str, Any], card: str, figures: dict[str, float]
) -> None:
    """Write the folder at once or not at all. Raises CheckpointError if something is there, or the disk fails."""
    out = Path(out)
    if out.exists() or out.is_symlink():
        raise CheckpointError(f"{out}: exists; a published model replaces nothing, choose another --out")
    work = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
        # Rows one after the other, and each tensor its own: the format knows neither strides nor shared memory.
        rows = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
        save_file(rows, work / WEIGHTS, metadata={"format": "pt"})
        content = {"format": FORMAT, "weights_sha256": sha256_of(work / WEIGHTS), "figures": figures, "config": config}
        (work / CONFIG).write_text(f"{json.dumps(content, indent=1)}\n", encoding="utf-8")
        (work / CARD).write_text(card, encoding="utf-8")
        for file in work.iterdir():
            file.chmod(0o644)
            flush_to_disk(file)
        work.chmod(0o755)
        os.rename(work, out)
        flush_to_disk(out.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{out}: cannot be written ({reason}); nothing was left behind") from None
    finally:
        if work:
            shutil.rmtree(work, ignore_errors=True)


def read_published(path: str | Path) -> dict[str, Any]:
    """config, model and figures of a folder. Raises CheckpointError if it is damaged, or another project's."""
    config = Path(path) / CONFIG
    try:
        content = parse_json(config.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{config}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CheckpointError(f"{config}: not readable as JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("config"), dict):
        raise CheckpointError(f"{config}: expected the format {FORMAT} of train/publish.py; is it another project's?")
    weights = Path(path) / WEIGHTS
    model = read_safetensors(weights, "the weights of a published model")
    if sha256_of(weights) != content.get("weights_sha256"):
        raise CheckpointError(f"{weights}: is not the file that {CONFIG} names (SHA-256 differs); fetch both again")
    return {"config": content["config"], "model": model, "figures": content.get("figures", {})}
