"""How well a person can be seen in a picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from personsearch.core.quality import Quality, quality_of
from personsearch.core.street.street import Street, StreetSettings


@pytest.fixture(scope="module")
def picture() -> tuple[np.ndarray, np.ndarray]:
    frame = Street(StreetSettings(seed=7, cameras=2, people=3, identities=12, width=1280, height=768)).frame(1, 10)
    rows = np.flatnonzero((frame.visible > 0.9) & (frame.boxes[:, 0] > 20) & (frame.boxes[:, 2] < 1260))
    return frame.image, frame.boxes[rows[0]]


def test_an_empty_box_tells_nothing(picture: tuple[np.ndarray, np.ndarray]) -> None:
    image, _ = picture
    assert quality_of(image, np.array([5.0, 5, 5, 5])).value == 0
    assert quality_of(image, np.array([-90.0, -90, -50, -50])).value == 0


def test_each_fault_lowers_the_quality_and_is_named(picture: tuple[np.ndarray, np.ndarray]) -> None:
    image, box = picture
    good = quality_of(image, box)
    assert good.value > 0.3
    blurred = quality_of(cv2.GaussianBlur(image, (0, 0), 6), box)
    dark = quality_of((image * 0.05).astype(np.uint8), box)
    covered = quality_of(image, box, covered=0.6)
    far = quality_of(cv2.resize(image, None, fx=0.15, fy=0.15, interpolation=cv2.INTER_AREA), box * 0.15)
    for worse, word in ((blurred, "blurred"), (dark, "dark"), (covered, "covered"), (far, "small")):
        assert worse.value < good.value, word
        assert any(word in said for said in worse.complaints()), (word, worse)


def test_a_box_at_the_border_is_cut() -> None:
    image = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    inside, cut = quality_of(image, np.array([50.0, 20, 110, 170])), quality_of(image, np.array([0.0, 50, 60, 200]))
    assert cut.visible < inside.visible


def test_all_shares_stay_within_zero_and_one() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        image = rng.integers(0, 255, (60, 80, 3), np.uint8)
        box = np.sort(rng.uniform(-30, 110, (2, 2)), axis=0).reshape(4)
        quality = quality_of(image, box, float(rng.uniform(0, 1)), float(rng.uniform(0, 2)))
        assert isinstance(quality, Quality)
        assert 0 <= quality.value <= 1
