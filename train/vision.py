"""torchvision, imported without the tracer of `torch.compile`, which nothing here needs at the start.

`torchvision.ops` asks that tracer one question for each call of RoIAlign in deterministic mode, and imports all of it
for that: most of what a command takes to start (3.8 of 7.6 s of processor time, torchvision 0.29). Here the question
imports it when it is asked.
"""

from __future__ import annotations

import sys
from types import ModuleType

TRACER = ("torch._dynamo", "torch._dynamo.utils")


def _import_torchvision() -> None:
    if "torchvision" in sys.modules or TRACER[0] in sys.modules:
        return
    import torch  # noqa: F401 - which imports the tracer for what needs it

    def is_compile_supported(device_type: str) -> bool:
        from torch._dynamo import utils

        return bool(utils.is_compile_supported(device_type))

    standing_in = {name: ModuleType(name) for name in TRACER}
    standing_in[TRACER[1]].is_compile_supported = is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update(standing_in)
    try:
        import torchvision  # noqa: F401
    finally:
        for name in TRACER:
            del sys.modules[name]


_import_torchvision()

from torchvision import models  # noqa: E402
from torchvision.ops import StochasticDepth, box_iou, nms, remove_small_boxes, roi_align  # noqa: E402

__all__ = ["StochasticDepth", "box_iou", "models", "nms", "remove_small_boxes", "roi_align"]
