"""Checkpoints: weights, full configuration, identity table and training state in one file without pickled code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from personsearch.core.errors import CheckpointError
from personsearch.train.csp import CSPStem
from personsearch.train.network import PersonSearch
from personsearch.train.settings import ModelSettings, TrainSettings

FORMAT = "personsearch-checkpoint/1"


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write atomically: a reader sees the old file or the new one, also after a crash."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); the previous file is untouched") from None
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without executing code from it. Raises CheckpointError if it is not one of ours."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; expected a checkpoint that train/run.py wrote") from None
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected a checkpoint of format {FORMAT}, got another project's or an older file"
        )
    return content


def checkpoint_settings(content: dict[str, Any], path: str | Path) -> TrainSettings:
    try:
        return TrainSettings.model_validate(content["config"])
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{path}: its configuration does not fit this version ({error})") from None


def build_network(content: dict[str, Any], path: str | Path) -> PersonSearch:
    """The network of a checkpoint's content in evaluation mode; `path` names it in errors."""
    network = PersonSearch(checkpoint_settings(content, path).model)
    fill(network, content["model"], path)
    return network.eval()


def load_network(
    path: str | Path, *, size: tuple[int, int] | None = None, proposals: int = 0
) -> tuple[PersonSearch, dict[str, Any]]:
    """The trained network in evaluation mode, and the whole checkpoint.

    size       (height, width) of another canvas than the trained one
    proposals  people per frame at most, if not as trained
    Raises CheckpointError for a file that is not one of ours, or a canvas that the network cannot have.
    """
    content = load_checkpoint(path)
    model = checkpoint_settings(content, path).model.model_dump(mode="json")
    if size:
        model["height"], model["width"] = size
    if proposals:
        model["rpn"]["test_proposals"] = proposals
    try:
        settings = ModelSettings.model_validate(model)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {error.errors()[0]['msg']}, got {size} and {proposals}") from None
    content["config"]["model"] = model
    network = PersonSearch(settings)
    fill(network, content["model"], path)
    return network.eval(), content


def save_weights(path: str | Path, network: PersonSearch, config: dict[str, Any]) -> None:
    """A checkpoint without training state, in half precision: small enough to ship, a start for fine-tuning.

    Of the paths in its configuration only the last parts stay: where somebody keeps data is nobody else's business.
    """
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_checkpoint(path, {"config": _without_folders(config), "model": state})


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(part) for part in value]
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value


def fill(module: torch.nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Strict loading with a short message instead of torch's list of every key."""
    own = module.state_dict()
    missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
    shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or extra or shapes:
        raise CheckpointError(
            f"{path}: weights do not fit the network: {len(missing)} missing, {len(extra)} unexpected, "
            f"{len(shapes)} of another shape (first: {sorted([*missing, *extra, *shapes])[0]})"
        )
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})


def fill_detector(network: PersonSearch, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Take the parts that find people from a checkpoint's network; what recognises them stays as it is."""
    if not isinstance(network.stem, CSPStem):
        raise CheckpointError(f"{path}: init_parts: detector needs model.backbone: csp_nano")
    wanted = {id(part) for part in (*network.stem.detector_parts(), network.rpn)}
    for name, module in network.named_modules():
        if id(module) in wanted:
            prefix = f"{name}."
            fill(module, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, path)
