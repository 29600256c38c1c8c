"""Tensors from PyTorch and safetensors files of anybody's making, without executing code from them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from personsearch.core.errors import CheckpointError

_WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before names
_PLACES = ("model", "state_dict", "model_state_dict", "network")  # where training programs keep the weights


def read_torch(path: str | Path, expected: str) -> Any:
    """What the file holds. Raises CheckpointError, in one line, if it is missing, damaged, or more than data."""
    if Path(path).suffix == ".safetensors":
        return read_safetensors(path, expected)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd files, which are an error here anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; expected {expected}") from None
    except (Exception, MemoryError) as error:  # whatever a damaged file leads the unpickler to
        raise CheckpointError(f"{path}: not a readable checkpoint ({_why(error)}); expected {expected}") from None


def _why(error: BaseException) -> str:
    """PyTorch's own words advise to load the file as a program."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError):
        foreign = re.search(r"GLOBAL ([\w.]+)", text)
        return f"it holds {foreign[1]}, not only tensors and plain values" if foreign else "it is no PyTorch file"
    if isinstance(error, RuntimeError) and "zip archive" in text:
        return "it is cut short or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (text or "it is empty").splitlines()[0][:120]


def read_safetensors(path: str | Path, expected: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file. Raises CheckpointError, in one line, if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise CheckpointError(f"{path}: not found; expected {expected}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise CheckpointError(f"{path}: not a readable safetensors file ({reason}); expected {expected}") from None


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point tensors in half precision, as models are shipped; `fill` widens them again."""
    return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}


def state_of(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The weights in a file's content, alone or under one of the usual keys, with the names that the network has
    without DistributedDataParallel and torch.compile. Raises CheckpointError if there are none."""
    for place in _PLACES:
        if isinstance(content, Mapping) and isinstance(content.get(place), Mapping):
            return plain_names(content[place], path)
    return plain_names(content, path)


def plain_names(state: Any, path: str | Path) -> dict[str, Tensor]:
    """Names without wrappers. Raises CheckpointError for what is no table of tensors."""
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path}: holds no weights (expected a table of names and tensors)")
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: expected names and tensors as weights, got {name!r}: {type(value).__name__}"
            )
        while name.startswith(_WRAPPERS):
            name = name.removeprefix("module.").removeprefix("_orig_mod.")
        name = name.replace("._orig_mod.", ".")
        if name in plain:
            raise CheckpointError(f"{path}: the weight '{name}' is there twice, with and without a wrapper's prefix")
        plain[name] = value
    return plain


def fill(module: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Strict loading with a short message instead of torch's list of every key."""
    own = module.state_dict()
    missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
    shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or extra or shapes:
        raise CheckpointError(
            f"{path}: weights do not fit the network: {len(missing)} missing, {len(extra)} unexpected, "
            f"{len(shapes)} of another shape (first: {sorted([*missing, *extra, *shapes])[0]})"
        )
    wild = next((k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()), None)
    if wild:
        raise CheckpointError(f"{path}: the weight '{wild}' holds numbers that are not finite; its training failed")
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
