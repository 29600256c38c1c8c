"""The static graph's RoIAlign and NMS against torchvision's operators."""

import pytest
import torch
from torchvision.ops import nms, roi_align

from personsearch.export.static_ops import nms_static, roi_align_static, roi_weights


def boxes_of(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    corner = torch.rand(60, 2, generator=generator) * torch.tensor([150.0, 90.0])
    boxes = torch.cat([corner, corner + torch.rand(60, 2, generator=generator) * 60 + 1], 1)
    if kind == "outside":
        boxes[:, :2] -= 40
        boxes[::3, 2:] += 80
    if kind == "zero":
        boxes[:, 2:] = boxes[:, :2]
    if kind == "edges":
        boxes = torch.tensor(
            [[0.0, 0, 160, 96], [159.0, 95, 160, 96], [0.0, 0, 1, 1], [-9.0, -9, -8, -8], [0, 0, 0, 0]]
        )
    return boxes


@pytest.mark.parametrize("kind", ["inside", "outside", "zero", "edges"])
@pytest.mark.parametrize(("stride", "size"), [(4, (24, 12)), (16, (14, 14))])
def test_roi_align_equals_torchvision(kind: str, stride: int, size: tuple[int, int]) -> None:
    feature = torch.randn(1, 6, 96 // stride, 160 // stride, generator=torch.Generator().manual_seed(1))
    boxes = boxes_of(kind)
    expected = roi_align(feature, [boxes], size, 1 / stride, 2, False)
    columns, rows = roi_weights(boxes[None], size, tuple(feature.shape[-2:]), 1 / stride, 2)
    assert torch.allclose(roi_align_static(feature, columns, rows), expected, atol=2e-5)


def test_roi_align_keeps_the_images_of_a_batch_apart() -> None:
    feature, boxes = torch.randn(2, 3, 24, 40), boxes_of("inside")[:4]
    both = torch.stack([boxes, boxes.flip(0)])
    expected = roi_align(feature, [both[0], both[1]], (8, 4), 0.25, 2, False)
    columns, rows = roi_weights(both, (8, 4), (24, 40), 0.25, 2)
    assert torch.allclose(roi_align_static(feature, columns, rows), expected, atol=2e-5)


@pytest.mark.parametrize("seed", range(10))
def test_nms_equals_greedy_nms_in_a_crowd(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(1000, 2, generator=generator) * 300
    boxes = torch.cat([corner, corner + torch.rand(1000, 2, generator=generator) * 80 + 20], 1)
    scores = torch.linspace(1, 0, 1000)
    kept = torch.zeros(1000)
    kept[nms(boxes, scores, 0.5)] = 1
    assert torch.equal(nms_static(boxes[None], torch.ones(1, 1000), 0.5, 16)[0], kept)


def test_nms_leaves_invalid_boxes_out_and_they_suppress_nobody() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 10], [50.0, 50, 60, 60]]])
    assert nms_static(boxes, torch.tensor([[0.0, 1.0, 1.0]]), 0.5, 16).tolist() == [[0.0, 1.0, 1.0]]


def test_nms_of_identical_boxes_keeps_the_first() -> None:
    boxes = torch.tensor([[[1.0, 1, 5, 5]] * 4])
    assert nms_static(boxes, torch.ones(1, 4), 0.5, 16).tolist() == [[1.0, 0.0, 0.0, 0.0]]
