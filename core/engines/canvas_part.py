"""A detector's OpenVINO graph for the part of its canvas that a frame fills.

A 4:3 frame leaves a fifth of a 384x640 canvas grey, a panorama half of it. The network is convolutional, so it can look
at the rest alone; only the table of its cells has to shrink with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from personsearch.core.preprocess import Letterbox

STRIDES = (8, 16, 32)  # of the light detector's cells, level by level and row by row
LEAST_SHARE, MOST_SHARE = 0.25, 0.9  # of the canvas: less leaves too few cells to choose from, more is not worth it

Size = tuple[int, int]  # height, width


def filled_part(canvas: Size, frame: Size) -> Size:
    """The part of the canvas to look at for a letterboxed frame of that size, in whole cells."""
    coarsest = max(STRIDES)
    height, width = (math.ceil(side / coarsest) * coarsest for side in Letterbox(*canvas).filled(*frame))
    share = height * width / (canvas[0] * canvas[1])
    return (height, width) if LEAST_SHARE <= share <= MOST_SHARE else canvas


def look_at_part(openvino: Any, model: Any, canvas: Size, part: Size) -> None:
    """Change a graph (1, H, W, 3) -> proposals, in place, to one for the top left `part` (h, w) of its canvas."""
    kept, count = [], 0
    for stride in STRIDES:
        y, x = np.mgrid[0 : canvas[0] // stride, 0 : canvas[1] // stride]
        kept.append(count + np.flatnonzero((y < part[0] // stride) & (x < part[1] // stride)))
        count += y.size
    model.get_parameters()[0].set_partial_shape(openvino.PartialShape([1, *part, 3]))
    for constant in (
        op for op in model.get_ops() if op.get_type_name() == "Constant" and list(op.shape)[:1] == [count]
    ):
        values = np.ascontiguousarray(constant.data[np.concatenate(kept)])
        shorter = openvino.opset13.constant(values, dtype=constant.get_element_type())
        for reader in constant.output(0).get_target_inputs():
            reader.replace_source_output(shorter.output(0))
    model.validate_nodes_and_infer_types()
