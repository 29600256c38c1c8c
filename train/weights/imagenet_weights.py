"""Start a network's backbone from torchvision's ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import torch

from personsearch.core.errors import CheckpointError
from personsearch.train.model.network import PersonSearch
from personsearch.train.state import fill, read_torch, state_of
from personsearch.train.vision import models


def imagenet_file(name: str) -> str:
    """A path as it is; a name of torchvision's (IMAGENET1K_V1, _V2) as its file in torch's cache, which must be there.

    Nothing is fetched: CheckpointError says how to.
    """
    if name not in models.ResNet50_Weights.__members__:
        return name
    url = models.ResNet50_Weights[name].url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        raise CheckpointError(
            f"init_resnet: {name} names torchvision's ImageNet weights, but {file} does not exist; put the file of "
            f"{url} there, or name it: init_resnet=FILE.pth (from_scratch=true insists on random weights)"
        )
    return str(file)


# What the published network has behind its features, and ours has not.
CLASSIFIERS = {"resnet50": ("fc.",), "convnext": ("classifier.2.",), "swin": ("head.",)}
# Our own names of what is published under another.
NAMES = {"convnext": {"classifier.0.": "norm."}}
OWN = ("rpn_norm.",)  # parts that no published file has


def load_imagenet(network: PersonSearch, path: str) -> None:
    """Fill stem and head (with two stages both heads) from torchvision's state dict of the same backbone.

    path  a file that the user names, of torch or .safetensors
    Raises CheckpointError if it is of another network, or damaged.
    """
    backbone = network.settings.backbone
    kind = backbone.partition("_")[0]
    expected = f"torchvision's {backbone} weights"
    state = state_of(read_torch(path, expected), path)
    for published, ours in NAMES.get(kind, {}).items():
        state = {ours + k.removeprefix(published) if k.startswith(published) else k: v for k, v in state.items()}
    heads = [network.head] if network.first is None else [network.head, network.first.head]
    taken: set[str] = set()
    for module in (network.stem, *heads):
        own = {k: v for k, v in module.state_dict().items() if not k.startswith(OWN)}
        missing = [k for k in own if k not in state]
        if missing:
            raise CheckpointError(f"{path}: expected {expected}, but {missing[0]} is missing")
        kept = {k: v for k, v in module.state_dict().items() if k.startswith(OWN)}
        fill(module, {**{k: state[k] for k in own}, **kept}, path)
        taken |= own.keys()
    unused = {k for k in state if k not in taken and not k.startswith(CLASSIFIERS[kind])}
    if unused:
        raise CheckpointError(f"{path}: unexpected weights {sorted(unused)[:3]}; is this a {backbone}?")
