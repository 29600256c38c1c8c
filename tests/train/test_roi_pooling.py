"""RoIAlign's separable gradient against torchvision's, on boxes inside, across the border, outside, tiny and none."""

import pytest
import torch
from torchvision.ops import roi_align

from personsearch.train.model.roi_pooling import pool


@pytest.mark.parametrize("counts", [(5, 9), (0, 6), (0, 0)])
@pytest.mark.parametrize(("size", "stride"), [((14, 14), 16), ((24, 12), 4)])
def test_values_and_gradients_equal_torchvisions(counts: tuple[int, int], size: tuple[int, int], stride: int) -> None:
    generator = torch.Generator().manual_seed(sum(counts) + stride)
    boxes = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 260 - 30
        extent = torch.rand(count, 2, generator=generator, dtype=torch.float64) ** 2 * 200
        boxes.append(torch.cat([corner, corner + extent], 1))
    if counts[1]:
        boxes[1][0] = torch.tensor([-500.0, -500, -400, -400])  # nothing of it is in the image
        boxes[1][1] = torch.tensor([30.0, 40, 30, 40])  # no size at all
    feature = torch.randn(2, 3, 224 // stride, 192 // stride, generator=generator, dtype=torch.float64)
    ours, theirs = feature.clone().requires_grad_(), feature.clone().requires_grad_()
    out = pool(ours, boxes, size, 1 / stride)
    expected = roi_align(theirs, boxes, size, 1 / stride, 2, False)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.equal(out, expected)
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-12)
