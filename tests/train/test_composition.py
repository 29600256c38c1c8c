"""What training canvases are put together from: placement, mosaic, and people before other backgrounds."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.core.preprocess import PAD_VALUE, Letterbox
from personsearch.train.data.composition import Placement, paste_people, random_placement, silhouette, windows
from personsearch.train.data.samples import Samples
from personsearch.train.settings import AugmentSettings, DataSettings, SourceSettings

CANVAS = Letterbox(96, 160)
PERSON = [60.0, 20.0, 30.0, 60.0]  # x, y, w, h in a frame of 160x96
SHADES = {"a": 40, "b": 90, "c": 140, "d": 190}  # of the person in each frame; the background is 30 lighter


@pytest.fixture
def frames(tmp_path: Path) -> SourceSettings:
    """Four frames with a person each, and one without anybody."""
    images = []
    for name, shade in (*SHADES.items(), ("empty", 250)):
        picture = np.full((96, 160, 3), min(255, shade + 30), np.uint8)
        people = []
        if name != "empty":
            x, y, w, h = map(int, PERSON)
            picture[y : y + h, x : x + w] = shade
            people = [{"box": PERSON, "identity": shade}]
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        images.append({"file": f"{name}.png", "people": people})
    (tmp_path / "people.json").write_text(json.dumps({"images": images}))
    return SourceSettings(format="json", root=str(tmp_path))


def samples(source: SourceSettings, teacher=None, **augment: object) -> Samples:
    settings = AugmentSettings(flip=0, **augment)
    return Samples(DataSettings(train=(source,), test=source, augment=settings), CANVAS, teacher)


def shade_at(image: np.ndarray, box: np.ndarray) -> int:
    x, y = ((box[:2] + box[2:]) / 2).astype(int)
    return int(image[y, x, 0])


@pytest.mark.parametrize("zoom", [(1.0, 1.0), (0.5, 0.6), (1.5, 2.0)])
def test_boxes_follow_the_picture_to_wherever_it_is_placed(zoom: tuple[float, float]) -> None:
    image = np.full((60, 100, 3), 200, np.uint8)
    box = np.array([[40, 20, 60, 50]], np.float32)
    image[20:50, 40:60] = 10
    for seed in range(20):
        placement = random_placement((60, 100), CANVAS, zoom, np.random.default_rng(seed))
        (moved,), (visible,) = placement.boxes(box, CANVAS)
        if visible:
            x1, y1, x2, y2 = np.round(moved).astype(int)
            canvas = placement.draw(image, CANVAS)
            assert canvas.shape == (96, 160, 3)
            assert (canvas[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == 10).mean() > 0.95


@pytest.mark.parametrize("side", [2, 3, 4, 8])
def test_large_frames_are_reduced_by_the_same_filter_in_training_and_at_test_time(side: int, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96 * side, 160 * side, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (tmp_path / "people.json").write_text(
        json.dumps({"images": [{"file": "a.png", "people": [{"box": [0, 0, 99, 99]}]}]})
    )
    made = samples(SourceSettings(format="json", root=str(tmp_path)))[0, 0].image
    assert np.array_equal(made, CANVAS(image)[0])
    zoomed = Placement(CANVAS.scale_for(*image.shape[:2]), 0, 1).draw(image, CANVAS)  # one pixel lower: drawn apart
    assert np.array_equal(zoomed[1:], CANVAS(image)[0][:-1])


def test_people_who_are_mostly_cut_off_or_tiny_are_not_visible() -> None:
    boxes = np.array([[0, 0, 20, 40], [0, 0, 4, 8], [200, 0, 220, 40]], np.float32)
    assert Placement(1.0).boxes(boxes, CANVAS)[1].tolist() == [True, False, False]
    assert Placement(1.0, x=-11).boxes(boxes[:1], CANVAS)[1].tolist() == [False]
    assert Placement(1.0).boxes(boxes[:0], CANVAS)[0].shape == (0, 4)


def test_the_four_parts_of_a_mosaic_cover_the_canvas_once() -> None:
    for seed in range(10):
        covered = np.zeros((CANVAS.height, CANVAS.width), int)
        for left, top, part in windows(CANVAS, np.random.default_rng(seed)):
            covered[top : top + part.height, left : left + part.width] += 1
        assert (covered == 1).all()


def test_a_mosaic_shows_the_people_of_four_frames_where_their_boxes_say(frames: SourceSettings) -> None:
    data = samples(frames, mosaic=1)
    shades_of = {label: int(name.partition(":")[2]) for label, name in data.identity_table.items()}
    together = set()
    for draw in range(12):
        sample = data[(draw % 5, draw)]
        assert len(sample.boxes) == len(sample.labels) == len(sample.known) <= 4
        for box, label in zip(sample.boxes, sample.labels, strict=True):
            assert shade_at(sample.image, box) == shades_of[int(label)]
        together.add(len(set(sample.labels.tolist())))
    assert max(together) >= 3


def test_people_get_another_background_and_keep_their_looks(frames: SourceSettings) -> None:
    data = samples(frames, new_background=1)
    backgrounds = set()
    for draw in range(12):
        sample = data[(0, draw)]
        assert shade_at(sample.image, sample.boxes[0]) == SHADES["a"]
        backgrounds.add(int(sample.image[5, 5, 0]))
    assert len(backgrounds) >= 3


def test_a_frame_without_people_stays_as_it_is(frames: SourceSettings) -> None:
    sample = samples(frames, new_background=1)[(4, 0)]
    assert sample.boxes.shape == (0, 4)
    assert (sample.image == 255).all()


def test_a_part_that_replaces_a_damaged_frame_counts(frames: SourceSettings) -> None:
    for name in SHADES:
        (Path(frames.root) / f"{name}.png").write_bytes(b"no picture")
    for kind in ("mosaic", "new_background"):
        data = samples(frames, **{kind: 1})
        data.settings = data.settings.model_copy(update={"on_bad_image": "skip"})
        sample = data[(0, 0)]
        assert sample.replaced
        assert len(sample.boxes) == 0
        assert set(np.unique(sample.image)) <= {PAD_VALUE, 255}


def test_the_teacher_sees_people_where_they_were(frames: SourceSettings) -> None:
    def teacher(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:  # the background, and the shade of each person
        return np.array([[image[0, 0, 0], shade_at(image, box)] for box in boxes], np.float32).reshape(-1, 2)

    for draw in range(6):
        sample = samples(frames, teacher, new_background=1)[(0, draw)]
        assert sample.known[0]
        assert sample.teacher[0].tolist() == [70, 40]
        assert not sample.known[1:].any()  # people of the background: nobody asked about them
        mosaic = samples(frames, teacher, mosaic=1, new_background=1)[(1, draw)]
        assert mosaic.teacher[mosaic.known][0].tolist() == [120, 90]


def test_people_of_the_background_stay_unless_they_are_hidden() -> None:
    front, back = np.full((96, 160, 3), 50, np.uint8), np.full((96, 160, 3), 200, np.uint8)
    person = np.array([[60, 20, 90, 80]], np.float32)
    others = np.array([[62, 22, 88, 78], [120, 20, 150, 80], [62, 0, 88, 24]], np.float32)
    picture, boxes, shown = paste_people(front, person, back, others)
    assert shown.tolist() == [False, True, True]
    assert np.array_equal(boxes, others)
    assert picture[50, 75, 0] == 50
    assert picture[50, 135, 0] == 200
    nobody = np.zeros((0, 4), np.float32)
    assert (paste_people(front, nobody, back, nobody)[0] == 200).all()


def test_a_background_of_another_shape_fills_the_frame() -> None:
    front, back = np.full((96, 160, 3), 50, np.uint8), np.full((300, 200, 3), 200, np.uint8)
    picture, boxes, shown = paste_people(
        front,
        np.array([[60, 20, 90, 80]], np.float32),
        back,
        np.array([[0, 0, 50, 50], [140, 120, 190, 180]], np.float32),
    )
    assert picture.shape == front.shape
    assert (picture[:, :10] == 200).all()
    assert shown.tolist() == [False, True]  # the first is above what is left of its frame
    assert boxes[1].tolist() == pytest.approx([112, 24, 152, 72])


def test_a_silhouette_is_inside_its_box_and_leaves_the_corners_to_the_background() -> None:
    mask = silhouette((96, 160), np.array([[60, 20, 90, 80], [0, 0, 2, 2]], np.float32))[..., 0]
    assert mask[50, 75] == 1
    assert mask[21, 61] < 0.1
    assert mask[:, :60].max() == mask[:20].max() == 0
