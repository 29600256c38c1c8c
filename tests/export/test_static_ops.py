"""The static graph's RoIAlign and NMS, and RoIAlign on the pixels of a frame, against torchvision's operators."""

import numpy as np
import pytest
import torch

from personsearch.core.engines.roi_align import pool_pixels
from personsearch.export.static_ops import nms_static, roi_align_static, roi_weights
from personsearch.train.vision import nms, roi_align


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
    if kind == "far outside":  # nothing of the image is in them
        boxes = torch.tensor(
            [[-900.0, -900, -800, -850], [500.0, 500, 700, 600], [-50, 10, -20, 60], [10, 200, 60, 300]]
        )
    if kind == "inverted":  # x2 < x1: both take a side of one cell
        boxes = boxes[:, [2, 3, 0, 1]]
    if kind == "whole cells":  # sampling points fall on cell centres and on the last row
        boxes = torch.tensor([[16.0, 16, 48, 48], [128, 64, 160, 96], [0, 64, 160, 96], [144, 80, 176, 112]])
    return boxes


KINDS = ["inside", "outside", "zero", "edges", "far outside", "inverted", "whole cells"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("stride", "size"), [(1, (16, 8)), (4, (24, 12)), (16, (14, 14))])
def test_roi_align_equals_torchvision(kind: str, stride: int, size: tuple[int, int]) -> None:
    feature = torch.randn(1, 6, 96 // stride, 160 // stride, generator=torch.Generator().manual_seed(1))
    boxes = boxes_of(kind)
    expected = roi_align(feature, [boxes], size, 1 / stride, 2, False)
    columns, rows = roi_weights(boxes[None], size, tuple(feature.shape[-2:]), 1 / stride)
    # Absolute, because a sampling point at pixel 100 carries 1e-5 of rounding, and two of these products meet.
    assert torch.allclose(roi_align_static(feature, columns, rows), expected, atol=1e-4 if stride == 1 else 2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(192, 96), (100, 60)])
def test_pooling_pixels_equals_torchvision(kind: str, size: tuple[int, int]) -> None:
    images = np.random.default_rng(4).integers(0, 256, (2, 96, 160, 3), np.uint8)
    boxes = boxes_of(kind)
    expected = roi_align(torch.from_numpy(images[1]).permute(2, 0, 1)[None].double(), [boxes.double()], size, 1.0, 2)
    out = np.full((len(boxes), 3, *size), np.nan, np.float32)
    pool_pixels(images, [1] * len(boxes), boxes.numpy(), out)
    # In grey levels: a sampling point at pixel 160 carries 1e-5 pixels of rounding, and neighbours differ by up to 255.
    assert np.abs(out - expected.numpy()).max() < 0.01


def test_a_person_with_many_pixels_is_averaged_instead_of_sampled() -> None:
    picture = np.random.default_rng(6).integers(0, 2, (640, 640, 3), np.uint8) * 255  # noise: sampling would show it
    picture[:, 320:] //= 2
    out = np.zeros((1, 3, 16, 8), np.float32)
    pool_pixels([picture], [0], np.array([[0, 0, 640, 640]], np.float32), out)
    expected = picture.reshape(16, 40, 8, 80, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(out[0] - expected).max() < 1
    sampled = roi_align(
        torch.from_numpy(picture).permute(2, 0, 1)[None].float(), [torch.tensor([[0.0, 0, 640, 640]])], (16, 8), 1.0, 2
    )
    assert np.abs(sampled[0].numpy() - expected).max() > 50


def test_pooling_no_boxes_does_nothing() -> None:
    pool_pixels(np.zeros((1, 8, 8, 3), np.uint8), [], np.zeros((0, 4), np.float32), np.zeros((0, 3, 4, 2), np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_roi_align_is_exact_in_float64(kind: str) -> None:
    feature = torch.randn(1, 3, 24, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    boxes = boxes_of(kind).double()
    expected = roi_align(feature, [boxes], (14, 14), 0.25, 2, False)
    columns, rows = roi_weights(boxes[None], (14, 14), (24, 40), 0.25)
    assert torch.allclose(roi_align_static(feature, columns, rows), expected, atol=1e-12)


def test_roi_align_keeps_the_images_of_a_batch_apart() -> None:
    feature, boxes = torch.randn(2, 3, 24, 40), boxes_of("inside")[:4]
    both = torch.stack([boxes, boxes.flip(0)])
    expected = roi_align(feature, [both[0], both[1]], (8, 4), 0.25, 2, False)
    columns, rows = roi_weights(both, (8, 4), (24, 40), 0.25)
    assert torch.allclose(roi_align_static(feature, columns, rows), expected, atol=2e-5)


def greedy(boxes: torch.Tensor, threshold: float) -> torch.Tensor:
    """torchvision's NMS of boxes that are sorted by falling score, as 0/1."""
    kept = torch.zeros(len(boxes))
    kept[nms(boxes, torch.linspace(1, 0, len(boxes)), threshold)] = 1
    return kept


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.7])
@pytest.mark.parametrize("seed", range(10))
def test_nms_equals_greedy_nms_in_a_crowd(seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(1000, 2, generator=generator) * 300
    boxes = torch.cat([corner, corner + torch.rand(1000, 2, generator=generator) * 80 + 20], 1)
    assert torch.equal(nms_static(boxes[None], torch.ones(1, 1000), threshold, 16)[0], greedy(boxes, threshold))


def test_nms_equals_greedy_nms_on_a_queue_of_people() -> None:
    """A chain, each box overlapping only its neighbours: one round settles one link, so 16 rounds carry 16 links."""
    left = torch.arange(16.0)[:, None] * 4
    boxes = torch.cat([left, torch.zeros(16, 1), left + 10, torch.full((16, 1), 20.0)], 1)
    expected = greedy(boxes, 0.4)
    assert 1 < expected.sum() < 16
    assert torch.equal(nms_static(boxes[None], torch.ones(1, 16), 0.4, 16)[0], expected)
    assert not torch.equal(nms_static(boxes[None], torch.ones(1, 16), 0.4, 2)[0], expected)


@pytest.mark.parametrize("kind", ["outside", "zero", "edges", "inverted"])
def test_nms_equals_greedy_nms_on_odd_boxes(kind: str) -> None:
    boxes = boxes_of(kind)
    if kind == "inverted":  # torchvision gives them negative areas; ours have none and overlap nobody
        assert nms_static(boxes[None], torch.ones(1, len(boxes)), 0.5, 16).min() == 1
        return
    assert torch.equal(nms_static(boxes[None], torch.ones(1, len(boxes)), 0.5, 16)[0], greedy(boxes, 0.5))


def test_nms_treats_an_overlap_equal_to_the_threshold_as_torchvision_does() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [0, 0, 5, 5]])  # IoU 0.5, 0.49, 0.25
    kept = nms_static(boxes[None], torch.ones(1, 4), 0.5, 16)[0]
    assert torch.equal(kept, greedy(boxes, 0.5))
    assert kept[1] == 1


def test_nms_leaves_invalid_boxes_out_and_they_suppress_nobody() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 10], [50.0, 50, 60, 60]]])
    assert nms_static(boxes, torch.tensor([[0.0, 1.0, 1.0]]), 0.5, 16).tolist() == [[0.0, 1.0, 1.0]]
    assert nms_static(boxes, torch.zeros(1, 3), 0.5, 16).tolist() == [[0.0, 0.0, 0.0]]


def test_nms_of_identical_boxes_keeps_the_first() -> None:
    boxes = torch.tensor([[[1.0, 1, 5, 5]] * 4])
    assert nms_static(boxes, torch.ones(1, 4), 0.5, 16).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_nms_keeps_the_images_of_a_batch_apart() -> None:
    crowd, alone = boxes_of("inside")[:5], boxes_of("edges")
    both = nms_static(torch.stack([crowd, alone]), torch.ones(2, 5), 0.3, 16)
    assert torch.equal(both[0], greedy(crowd, 0.3))
    assert torch.equal(both[1], greedy(alone, 0.3))
