"""Data formats with their odd cases, the synthetic street, and errors that name the file."""

import json
import time

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from personsearch.core.errors import CameraError, DataError
from personsearch.core.preprocess import Letterbox
from personsearch.core.street.street import Street, StreetSettings, parse_street_url, street_of
from personsearch.train.data.json_data import load_json
from personsearch.train.data.prw import load_prw
from personsearch.train.data.samples import Samples, WeightedDraws, load_split, read_image
from personsearch.train.data.street_data import StreetImages
from personsearch.train.settings import DataSettings, SourceSettings


def cell(names: list[str]) -> np.ndarray:
    out = np.empty((len(names), 1), object)
    for i, name in enumerate(names):
        out[i, 0] = name
    return out


@pytest.fixture
def prw_root(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "annotations").mkdir()
    names = ["c1s1_000001", "c2s3_000002", "c3s1_000003", "c6s1_000004"]
    savemat(tmp_path / "frame_train.mat", {"img_index_train": cell(names[:2])})
    savemat(tmp_path / "frame_test.mat", {"img_index_test": cell(names[2:])})
    rows = {
        "box_new": [[5, -10.6, 20.2, 50.7, 100.3], [-2, 3, 4, 0, 9]],
        "anno_file": [[483, 1, 2, 30, 60]],
        "anno_previous": [[-2, 1, 2, 30, 60]],
    }
    for name, (key, value) in zip(names, rows.items(), strict=False):
        savemat(tmp_path / "annotations" / f"{name}.jpg.mat", {key: np.array(value, float)})
        cv2.imwrite(str(tmp_path / "frames" / f"{name}.jpg"), np.zeros((80, 90, 3), np.uint8))
    savemat(tmp_path / "annotations" / f"{names[3]}.jpg.mat", {"box_new": np.zeros((0, 5))})
    (tmp_path / "query_info.txt").write_bytes(b"5 1.9 2.2 30 60 c3s1_000003\r\n")
    return tmp_path


def test_prw_reads_all_three_variable_names_and_clips_before_adding(prw_root) -> None:
    train = load_prw(prw_root, "train")
    assert [t.name for t in train.images] == ["c1s1_000001.jpg", "c2s3_000002.jpg"]
    assert [t.camera for t in train.images] == [1, 2]
    assert train.images[0].boxes.tolist() == [[0, 20, 50, 120]]  # x clipped to 0, truncated; the zero-width box dropped
    assert train.images[1].identities.tolist() == [483]  # odd only in PRW itself
    test = load_prw(prw_root, "test")
    assert test.images[0].identities.tolist() == [-1]
    assert test.images[1].boxes.shape == (0, 4)
    assert (test.queries[0].image, test.queries[0].identity) == ("c3s1_000003.jpg", 5)
    assert test.queries[0].box.tolist() == [1, 2, 31, 62]
    assert load_prw(prw_root, "test", integer_boxes=False).queries[0].box[0] == pytest.approx(1.9)


def test_prw_errors_name_the_file_and_the_expected_tree(prw_root, tmp_path) -> None:
    with pytest.raises(DataError, match="query_info"):
        load_prw(tmp_path / "nowhere", "test")
    (prw_root / "query_info.txt").write_text("5 1 2\n")
    with pytest.raises(DataError, match=r"query_info.txt:1: expected"):
        load_prw(prw_root, "test")
    (prw_root / "annotations" / "c1s1_000001.jpg.mat").write_bytes(b"junk")
    with pytest.raises(DataError, match="c1s1_000001"):
        load_prw(prw_root, "train")


def test_json_format_reads_people_and_names_the_bad_entry(tmp_path) -> None:
    content = {
        "images": [
            {"file": "a.jpg", "people": [{"box": [1, 2, 3, 4], "identity": 7}, {"box": [1, 2, 0, 4]}]},
            {"file": "b.jpg", "split": "test", "people": [{"box": [0, 0, 5, 5]}]},
        ],
        "queries": [{"file": "b.jpg", "box": [0, 0, 5, 5], "identity": 7}],
    }
    (tmp_path / "people.json").write_text(json.dumps(content))
    assert load_json(tmp_path, "train").images[0].boxes.tolist() == [[1, 2, 4, 6]]
    assert load_json(tmp_path, "test").queries[0].identity == 7
    content["images"][0]["people"][0]["box"] = [1, 2, 3]
    (tmp_path / "people.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"images.0.people.0.box"):
        load_json(tmp_path, "train")


def test_street_is_deterministic_by_seed_and_free_to_seek() -> None:
    settings = StreetSettings(seed=7)
    first, second = Street(settings), Street(settings)
    second.frame(2, 90)
    a, b = first.frame(2, 30), second.frame(2, 30)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.boxes, b.boxes)
    assert not np.array_equal(a.image, Street(StreetSettings(seed=8)).frame(2, 30).image)


def test_street_truth_lies_inside_the_frame_and_nobody_is_twice_at_once() -> None:
    street = Street(StreetSettings(seed=3, cameras=3, people=6, identities=40))
    for number in range(0, 300, 10):
        everywhere: list[int] = []
        for camera in range(3):
            everywhere += [person[0] for person in street.people(camera, number / 10)]
            truth = street.truth(camera, number)
            assert (truth.boxes >= 0).all()
            assert (truth.boxes <= [640, 384, 640, 384]).all()
            assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()
        assert len(everywhere) == len(set(everywhere))


def test_the_truth_of_a_frame_needs_no_picture() -> None:
    street = Street(StreetSettings(seed=3, cameras=2, people=8, identities=40))
    for camera, number in ((0, 0), (1, 15), (0, 130), (1, 240)):
        frame, truth = street.frame(camera, number), street.truth(camera, number)
        assert frame.image.shape == (384, 640, 3)
        assert len(frame.boxes) >= 3
        assert all(np.array_equal(getattr(frame, name), value) for name, value in vars(truth).items())
    with pytest.raises(ValueError, match=r"camera must be 0..1, got 2"):
        street.truth(2, 0)


def test_street_people_come_back_and_imbalance_makes_a_long_tail() -> None:
    def top_share(imbalance: float) -> float:
        street = Street(StreetSettings(seed=1, identities=64, people=4, imbalance=imbalance))
        seen = [person[0] for camera in range(4) for t in range(0, 900, 9) for person in street.people(camera, t)]
        counts = np.sort(np.bincount(seen, minlength=64))[::-1]
        return counts[:8].sum() / counts.sum()

    assert top_share(1.5) > 1.5 * top_share(0.0)


def test_street_draws_thirty_frames_a_second_on_one_core() -> None:
    street = Street(StreetSettings(seed=5, people=8))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    street.frame(1, 0)
    try:
        began = time.process_time()
        for number in range(60):
            street.frame(1, number)
        assert time.process_time() - began < 2.0  # 0.33 on a quiet machine
    finally:
        cv2.setNumThreads(threads)


def test_a_colour_histogram_does_not_solve_the_street() -> None:
    """Rank people of other cameras by the colours of upper and lower body: the best match is often a stranger."""
    street = Street(StreetSettings(seed=11, cameras=4, people=8, identities=64, imbalance=0.5))
    rows, identities, cameras = [], [], []
    for camera in range(4):
        for number in range(0, 1800, 45):
            frame = street.frame(camera, number)
            for box, identity, visible in zip(frame.boxes.astype(int), frame.identities, frame.visible, strict=True):
                if visible < 0.8 or box[3] - box[1] < 30:
                    continue
                crop = cv2.cvtColor(frame.image[box[1] : box[3], box[0] : box[2]], cv2.COLOR_BGR2HSV)
                halves = np.array_split(crop, 2)
                hist = [
                    cv2.calcHist([np.ascontiguousarray(h)], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
                    for h in halves
                ]
                row = np.sqrt(np.concatenate([h.ravel() / h.sum() for h in hist]))
                rows.append(row / np.linalg.norm(row))
                identities.append(identity)
                cameras.append(camera)
    similarity = np.array(rows) @ np.array(rows).T
    identity, camera = np.array(identities), np.array(cameras)
    other = camera[:, None] != camera[None]
    answerable = ((identity[:, None] == identity[None]) & other).any(1)
    best = np.where(other, similarity, -1).argmax(1)
    rank_1 = (identity[best] == identity)[answerable].mean()
    assert answerable.sum() > 200
    assert rank_1 < 0.6


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("synthetic://avenue", "expected synthetic"),
        ("synthetic://street?poeple=8", "poeple"),
        ("synthetic://street?fps=fast", "fps"),
        ("synthetic://street?camera=5&cameras=2", "camera must be"),
        ("synthetic://street?people=8&identities=3", "identities"),
    ],
)
def test_bad_street_urls_say_what_is_wrong(url: str, word: str) -> None:
    with pytest.raises(CameraError, match=word):
        street_of(parse_street_url(url))


def test_street_splits_share_nobody_and_pictures_match_their_truth() -> None:
    source = SourceSettings(format="street", frames=12, identities=20, cameras=2, people=3)
    train, test = load_split(source, "train"), load_split(source, "test")
    assert {t.path.split("&")[0] for t in train.images}.isdisjoint(t.path.split("&")[0] for t in test.images)
    assert test.queries
    assert all(StreetImages.owns(t.path) and read_image(t).shape == (384, 640, 3) for t in test.images[:2])


def test_damaged_images_stop_or_are_skipped_by_choice(prw_root) -> None:
    (prw_root / "frames" / "c1s1_000001.jpg").write_bytes(b"no jpeg")
    for choice in ("stop", "skip"):
        source = SourceSettings(format="prw", root=str(prw_root))
        samples = Samples(DataSettings(train=(source,), test=source, on_bad_image=choice), Letterbox(96, 160))
        assert samples[(1, 0)].image.shape == (96, 160, 3)
        assert not samples[(1, 0)].replaced
        if choice == "skip":
            assert samples[(0, 0)].replaced  # by the next image
        else:
            with pytest.raises(DataError, match="c1s1_000001"):
                samples[(0, 0)]


def test_batches_of_one_camera_are_of_one_camera_over_all_ranks() -> None:
    cameras = [1] * 6 + [2] * 3
    whole, *parts = (
        list(WeightedDraws([1.0] * 9, batch, 0, 0, 20, rank, ranks, cameras))
        for batch, rank, ranks in ((4, 0, 1), (2, 0, 2), (2, 1, 2))
    )
    for batch in whole:
        assert len({cameras[index] for index, _ in batch}) == 1
    assert {cameras[batch[0][0]] for batch in whole} == {1, 2}
    assert whole == [one + other for one, other in zip(*parts, strict=True)]
    assert list(WeightedDraws([1.0] * 9, 4, 0, 7, 13, 0, 1, cameras)) == whole[7:]  # resumes anywhere
