"""Pictures of single people from several cameras: layouts, and scoring a model on them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import assert_user_error, call, run

from personsearch.core.errors import DataError
from personsearch.core.identification import Sightings
from personsearch.core.street.people import sprite
from personsearch.train.data.crops import describe, load_crops


def picture(path: Path, person: int, shade: int = 100) -> None:
    """A person of the synthetic street before a plain wall."""
    colour, mask = sprite(0, person, "front", 0)
    image = np.where(mask[..., None] > 127, colour, shade).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures"):
        load_crops(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load_crops(tmp_path / "missing")


def test_both_layouts_are_recognised(tmp_path: Path) -> None:
    for name in ("ada/01_2.jpg", "ada/01_10.jpg", "ada/02_1.PNG", "bob/02_1.jpg"):
        picture(tmp_path / "views" / name, 1)
    (tmp_path / "views" / "readme.txt").write_text("not a picture")
    nested = [(c.person, c.camera, c.view) for c in load_crops(tmp_path / "views")]
    assert nested == [("ada", "01", 2), ("ada", "01", 10), ("ada", "02", 1), ("bob", "02", 1)]
    for name in ("0001_1.jpg", "0001_2.jpg", "ada_b_2.jpg"):
        picture(tmp_path / "single" / name, 1)
    assert [(c.person, c.camera, c.view) for c in load_crops(tmp_path / "single")] == [
        ("0001", "1", 1), ("0001", "2", 1), ("ada_b", "2", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ada.jpg", "_1.jpg", "ada_.jpg", "ada/1_x.jpg", "ada/1.jpg"])
def test_a_name_that_says_too_little_is_refused(tmp_path: Path, name: str) -> None:
    picture(tmp_path / name, 1)
    with pytest.raises(DataError, match=r"the name does not say whom and where(.|\n)*PERSON_CAMERA"):
        load_crops(tmp_path)


def test_two_layouts_at_once_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "ada" / "1_1.jpg", 1)
    picture(tmp_path / "bob_1.jpg", 2)
    with pytest.raises(DataError, match="pictures beside folders of pictures"):
        load_crops(tmp_path)


def test_each_picture_is_described_as_a_whole(tmp_path: Path) -> None:
    for person in (7, 3):
        picture(tmp_path / f"{person}_a.jpg", person)
    boxes = []

    def size(image: np.ndarray, box: np.ndarray) -> np.ndarray:
        boxes.append(box.tolist())
        return np.array([[image.shape[0], len(boxes)]], np.float32)

    seen = describe(load_crops(tmp_path), size)
    assert boxes == [[[0.0, 0.0, 112.0, 192.0]]] * 2
    assert seen.embeddings.tolist() == [[192.0, 1.0], [192.0, 2.0]]
    assert (seen.people.tolist(), seen.cameras.tolist(), seen.views.tolist()) == ([0, 1], [0, 0], [1, 1])
    with pytest.raises(DataError, match=r"3_a.jpg: .*not finite"):
        describe(load_crops(tmp_path), lambda image, box: np.array([[np.nan]]))
    (tmp_path / "3_a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3_a.jpg: cannot be read"):
        describe(load_crops(tmp_path), size)


def test_a_bundle_and_its_checkpoint_are_scored_alike(tmp_path: Path, tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    for person in range(6):
        for camera, shade in ((1, 40), (2, 220)):
            picture(tmp_path / "people" / f"{person}_{camera}.jpg", person, shade)
    rows = []
    for model in (tiny_bundle, tiny_checkpoint):
        result = call(
            "train/evaluate.py", "--model", model, "--format", "crops", "--data", tmp_path / "people",
            "--engine", "onnxruntime", "--json", tmp_path / "a.json", "--dump", tmp_path / "a.npz",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "| centred |" in result.stdout
        assert len(Sightings.load(tmp_path / "a.npz").people) == 12
        rows.append(json.loads((tmp_path / "a.json").read_text()))
    assert list(rows[0]) == ["plain", "centred", "centred, with variance"]
    assert set(rows[0]["plain"]) == {"FNIR at FPIR 1 %", "FNIR at FPIR 10 %", "rank-1", "95 % interval"}
    assert rows[0] == rows[1]


def test_what_cannot_be_scored_is_said_in_one_line(tmp_path: Path, tiny_checkpoint: Path) -> None:
    picture(tmp_path / "1_1.jpg", 1)
    scored = ("train/evaluate.py", "--model", tiny_checkpoint, "--format", "crops")
    assert_user_error(call(*scored, "--data", tmp_path), "at least 4 people whom two cameras have seen")
    assert_user_error(call(*scored, "--data", tmp_path, "--cbgm"), "--cbgm has no meaning with --format crops")
    assert_user_error(run(*scored), "--data")  # started for real


def test_the_shipped_bundle_knows_people_in_another_camera(shared: Path, shipped_bundle: Path) -> None:
    """People of eight views: the templates of all find most; a smaller part, so that it takes seconds."""
    from personsearch.core.engines.searcher import BundleSearcher
    from personsearch.train.scoring.across_cameras import identification_rows

    crops = [c for c in load_crops(shared / "data" / "cross-camera" / "views") if c.view % 3 == 1]
    rows = identification_rows(describe(crops, BundleSearcher(shipped_bundle).embed))
    assert rows["centred"].rank_1 > 0.9
    assert rows["centred"].fnir(0.1) < 0.2
    assert rows["centred"].fnir(0.1) < rows["plain"].fnir(0.1)
