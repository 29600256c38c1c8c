"""Checkpoints: weights, full configuration, identity table and training state in one file without pickled code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from personsearch.core.errors import CheckpointError
from personsearch.core.files import replace_file
from personsearch.core.json_files import faults_of
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import ModelSettings, TrainSettings
from personsearch.train.sides import MULTIPLE
from personsearch.train.state import fill, halved, plain_names, read_torch
from personsearch.train.weights.published import CONFIG, WEIGHTS, is_published, read_published

FORMAT = "personsearch-checkpoint/1"


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Write atomically: a reader sees the old file or the new one, also after a crash."""
    try:
        replace_file(path, lambda file: torch.save({"format": FORMAT, **content}, file))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); the previous file is untouched") from None
    except RuntimeError as error:  # torch's own writer, on a full disk
        reason = str(error).splitlines()[0][:120]
        raise CheckpointError(f"{path}: cannot be written ({reason}); the previous file is untouched") from None


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, or the folder of a published model, without executing code from it.

    Raises CheckpointError if it is not one of ours.
    """
    if Path(path).is_dir():
        if not is_published(path):
            raise CheckpointError(
                f"{path}: is a folder without {CONFIG} and {WEIGHTS}; expected a checkpoint of train/run.py, or a "
                "model that train/publish.py wrote"
            )
        content = read_published(path)
        return content | {"model": plain_names(content["model"], path)}
    content = read_torch(path, "a checkpoint that train/run.py wrote")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected a checkpoint of format {FORMAT}, got another project's or an older file; "
            "one of the released OIMNet++ code becomes ours with train/official.py"
        )
    if not isinstance(content.get("config"), dict):
        raise CheckpointError(f"{path}: holds no configuration; expected a checkpoint that train/run.py wrote")
    return content | {"model": plain_names(content.get("model"), path)}


def checkpoint_settings(content: dict[str, Any], path: str | Path) -> TrainSettings:
    try:
        return TrainSettings.model_validate(content["config"])
    except ValidationError as error:
        raise CheckpointError(
            f"{faults_of(f'{path}: its configuration', error)}; was it made by another version?"
        ) from None


def build_network(content: dict[str, Any], path: str | Path) -> PersonSearch:
    """The network of a checkpoint's content in evaluation mode; `path` names it in errors."""
    network = PersonSearch(checkpoint_settings(content, path).model)
    fill(network, content["model"], path)
    return network.eval()


def load_network(
    path: str | Path, *, size: tuple[int, int] | None = None, proposals: int = 0, candidates: int = 0
) -> tuple[PersonSearch, dict[str, Any]]:
    """The trained network in evaluation mode, and the whole checkpoint.

    size       (height, width) of another canvas than the trained one
    proposals  people per frame at most, if not as trained
    candidates before NMS at most, for a static graph; frames then lie on one canvas also where model.fit is sides
    Raises CheckpointError for a file that is not one of ours, or a canvas that the network cannot have.
    """
    content = load_checkpoint(path)
    content["config"] = checkpoint_settings(content, path).model_dump(mode="json")
    model = content["config"]["model"]
    if candidates:
        model["rpn"]["test_candidates"] = min(candidates, model["rpn"]["test_candidates"])
        if model["fit"] == "sides":
            model["fit"] = "canvas"
            model["height"], model["width"] = (-(-model[side] // MULTIPLE) * MULTIPLE for side in ("height", "width"))
    if size:
        model["height"], model["width"] = size
    if proposals:
        model["rpn"]["test_proposals"] = proposals
    try:
        settings = ModelSettings.model_validate(model)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {error.errors()[0]['msg']}, got {size} and {proposals}") from None
    network = PersonSearch(settings)
    fill(network, content["model"], path)
    return network.eval(), content


def save_weights(path: str | Path, network: PersonSearch, config: dict[str, Any]) -> None:
    """A checkpoint without training state, in half precision: small enough to ship, a start for fine-tuning.

    Of the paths in its configuration only the last parts stay: where somebody keeps data is nobody else's business.
    """
    save_checkpoint(path, {"config": without_folders(config), "model": halved(network.state_dict())})


def without_folders(value: Any) -> Any:
    """A configuration whose paths are their last parts only."""
    if isinstance(value, dict):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(part) for part in value]
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value


def fill_detector(network: PersonSearch, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Take the parts that find people from a checkpoint's network; what recognises them stays as it is."""
    wanted = {id(part) for part in network.detector_parts()}
    if not wanted:
        raise CheckpointError(f"{path}: a detector alone can be taken over with model.backbone: csp_nano only")
    for name, module in network.named_modules():
        if id(module) in wanted:
            prefix = f"{name}."
            fill(module, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, path)
