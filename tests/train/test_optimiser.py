"""Optimisers without torch's compiler are torch's own to the bit."""

import sys
from types import ModuleType

import pytest
import torch

from personsearch.train.loop.uncompiled import uncompiled


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_steps_and_state_are_those_of_torchs_optimiser(kind: type[torch.optim.Optimizer], monkeypatch) -> None:
    compiler = ModuleType("torch._dynamo")  # torch's own ask for it; the real one takes seconds to import
    compiler.disable, compiler.graph_break = lambda function, *_, **__: function, lambda: None
    monkeypatch.setitem(sys.modules, compiler.__name__, compiler)
    monkeypatch.setattr(torch, "_dynamo", compiler, raising=False)
    options = {"lr": 0.1, "weight_decay": 0.01, "fused": True} | ({"momentum": 0.9} if kind is torch.optim.SGD else {})
    results = []
    for made in (kind, uncompiled(kind)):
        torch.manual_seed(1)
        layer = torch.nn.Linear(4, 3)
        optimiser = made([{"params": list(layer.named_parameters())}], **options)
        for step in range(4):
            optimiser.zero_grad(set_to_none=True)
            layer(torch.ones(2, 4) * step).square().sum().backward()
            optimiser.step()
            if step == 1:  # as a resumed run
                again = made([{"params": list(layer.named_parameters())}], **options)
                again.load_state_dict(optimiser.state_dict())
                optimiser = again
        state = [v for moments in optimiser.state_dict()["state"].values() for v in moments.values() if v is not None]
        assert not any(value.requires_grad for value in state)
        results.append([*layer.parameters(), *state])
    assert len(results[0]) >= 4
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
