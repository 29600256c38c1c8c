"""ProtoNorm's statistics of a data set: how a network gets used to a place without training.

A camera's light, height and lens move all embeddings in one direction, which makes strangers alike. ProtoNorm subtracts
the mean of identity prototypes (paper, Eq. 5-6), so its running statistics are what knows the place.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from personsearch.train.data.prw import SearchData
from personsearch.train.data.samples import read_image
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.protonorm import ProtoNorm
from personsearch.train.model.torch_searcher import TorchSearcher

SIGHTINGS = 8  # of each person: neighbouring frames say nothing new


def recentre(network: PersonSearch, data: SearchData) -> int:
    """Set the last norm's running mean and variance to those of the people in `data`, each one prototype.

    Returns the number of people; fewer than two, or another norm than ProtoNorm, leave the network as it is.
    """
    chosen = spread(data, SIGHTINGS)
    people = {label for rows in chosen.values() for _, label in rows}
    if len(people) < 2 or not isinstance(network.norm, ProtoNorm):
        return 0
    seen: list[Tensor] = []
    hook = network.norm.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    searcher, labels = TorchSearcher(network), []
    for number, rows in tqdm(chosen.items(), desc="prototypes", unit="frame", leave=False):
        image = data.images[number]
        searcher.embed(read_image(image), image.boxes[[row for row, _ in rows]])
        labels += [1 + label for _, label in rows]
    hook.remove()
    norm, momentum = network.norm, network.norm.momentum
    norm.momentum = 1.0
    norm.train()
    norm(torch.cat(seen), torch.tensor(labels))
    norm.eval()
    norm.momentum = momentum
    return len(people)


def spread(data: SearchData, sightings: int) -> dict[int, list[tuple[int, int]]]:
    """At most so many sightings of each identity, evenly over its own: image -> (row of its boxes, identity)."""
    places: dict[int, list[tuple[int, int]]] = {}
    for number, image in enumerate(data.images):
        for row, identity in enumerate(image.identities):
            if identity >= 0:
                places.setdefault(int(identity), []).append((number, row))
    chosen: dict[int, list[tuple[int, int]]] = {}
    for identity, where in places.items():
        for i in np.unique(np.linspace(0, len(where) - 1, sightings).round().astype(int)):
            number, row = where[i]
            chosen.setdefault(number, []).append((row, identity))
    return dict(sorted(chosen.items()))
