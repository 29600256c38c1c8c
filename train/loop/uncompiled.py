"""torch's optimisers without `torch.compile`, which nothing here uses.

Their methods ask the compiler to leave them alone, and import all of it for that: about as much as PyTorch itself takes
to start (torch 2.14). The methods that stand behind these requests compute the same.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

ASKING = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def uncompiled(kind: type[torch.optim.Optimizer]) -> Any:
    """The optimiser's class, not `differentiable`, without what its methods are wrapped in for the compiler."""
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ASKING}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(inspect.unwrap(kind.step))})
