"""The moving average of a run's weights (`optimiser.ema`): often better than the weights of any one step."""

from __future__ import annotations

import copy

import torch

from personsearch.train.model.network import PersonSearch


class Average:
    """A copy of the network that follows the one that learns: own <- d own + (1 - d) new, after each step.

    decay  d at most; early on it is (1 + step) / (10 + step), or a short run's average would be of its start

    Running statistics are averaged as the weights are; counters are copied. Every process computes the same.
    """

    def __init__(self, network: PersonSearch, decay: float) -> None:
        self.decay = decay
        self.network: PersonSearch = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: PersonSearch, step: int) -> None:
        """step: optimiser steps before this one, which a resumed run counts on."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for own, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(new, share)
            else:
                own.copy_(new)
