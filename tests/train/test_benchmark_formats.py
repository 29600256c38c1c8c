"""CUHK-SYSU in its published layout with the odd cases, COCO and our own format, and what is wrong where."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import assert_user_error, call
from scipy.io import savemat

from personsearch.core.errors import DataError
from personsearch.core.records import ImageTruth, Query
from personsearch.train.data.benchmarks import COUNTS, differences
from personsearch.train.data.check_data import problems
from personsearch.train.data.cuhk import load_cuhk
from personsearch.train.data.json_data import load_json
from personsearch.train.data.prw import SearchData, load_prw
from personsearch.train.data.samples import load_split
from personsearch.train.settings import SourceSettings


def struct(rows: list[dict], shape: tuple[int, int]) -> np.ndarray:
    """A MATLAB struct array."""
    out = (
        np.zeros(shape, dtype=[(k, object) for k in rows[0]]) if rows else np.zeros(shape, dtype=[("idlocate", object)])
    )
    for i, row in enumerate(rows):
        for key, value in row.items():
            out.reshape(-1)[i][key] = value
    return out


def cell(items: list) -> np.ndarray:
    out = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        out[i, 0] = item
    return out


def box(*xywh: float) -> np.ndarray:
    return np.array([xywh], np.int32)


def appearance(name: str, where: np.ndarray) -> dict:
    return {"imname": name, "idlocate": where, "ishard": np.array([[0]], np.uint8)}


@pytest.fixture
def cuhk_root(tmp_path: Path) -> Path:
    """s1, s2: training; s3, s4, s5: pool. One box without width; s5 has no boxes at all."""
    folder = tmp_path / "annotation" / "test" / "train_test"
    folder.mkdir(parents=True)
    pictures = {
        "s1.jpg": [box(10, 20, 30, 60), box(1, 2, 0, 9), box(50, 20, 30, 60)],
        "s2.jpg": [box(5, 5, 20, 40)],
        "s3.jpg": [box(10, 10, 20, 50), box(40, 10, 20, 50)],
        "s4.jpg": [box(60000, 10, 10000, 50)],  # over 65535 when added: must not wrap in uint16
        "s5.jpg": [],
    }
    images = []
    for name, boxes in pictures.items():
        entries = [{"idlocate": b.astype(np.uint16), "ishard": np.array([[0]])} for b in boxes]
        images.append({"imname": name, "nAppear": len(boxes), "box": struct(entries, (1, len(boxes)))})
    savemat(tmp_path / "annotation" / "Images.mat", {"Img": struct(images, (1, 5))})
    savemat(tmp_path / "annotation" / "pool.mat", {"pool": cell(["s3.jpg", "s4.jpg", "s5.jpg"])})
    people = [
        [appearance("s1.jpg", box(10, 20, 30, 60)), appearance("s2.jpg", box(5, 5, 20, 40))],
        [appearance("s1.jpg", box(50, 20, 30, 60))],
    ]
    train = [
        struct([{"idname": f"p{i}", "nAppear": len(p), "scene": struct(p, (1, len(p)))}], (1, 1))
        for i, p in enumerate(people)
    ]
    savemat(folder / "Train.mat", {"Train": cell(train)})
    absent = np.zeros((1, 0))
    gallery = [appearance("s4.jpg", box(60000, 10, 10000, 50)), appearance("s5.jpg", absent)]
    query = {**appearance("s3.jpg", box(10, 10, 20, 50)), "idname": "p9"}
    for size in (50, 100):
        entry = {"Query": struct([query], (1, 1)), "Gallery": struct(gallery[: size // 50], (1, size // 50))}
        savemat(folder / f"TestG{size}.mat", {f"TestG{size}": struct([entry], (1, 1))})
    return tmp_path


def test_cuhk_training_split_labels_boxes_with_equal_numbers(cuhk_root: Path) -> None:
    data = load_cuhk(cuhk_root, "train")
    assert [t.name for t in data.images] == ["s1.jpg", "s2.jpg"]
    assert data.images[0].boxes.tolist() == [[10, 20, 40, 80], [50, 20, 80, 80]]  # the box without width is gone
    assert [t.identities.tolist() for t in data.images] == [[1, 2], [1]]  # by position in Train, from 1
    assert data.images[0].path.endswith("Image/SSM/s1.jpg")


def test_cuhk_test_split_has_queries_absent_targets_and_galleries_by_size(cuhk_root: Path) -> None:
    data = load_cuhk(cuhk_root, "test", gallery=100)
    assert [t.name for t in data.images] == ["s3.jpg", "s4.jpg", "s5.jpg"]
    assert data.images[0].identities.tolist() == [1, -1]
    assert data.images[1].boxes.tolist() == [[60000, 10, 70000, 60]]
    assert data.images[1].identities.tolist() == [1]
    assert data.images[2].boxes.shape == (0, 4)
    assert data.queries[0].box.tolist() == [10, 10, 30, 60]
    assert data.galleries == [["s4.jpg", "s5.jpg"]]
    assert load_cuhk(cuhk_root, "test", gallery=50).galleries == [["s4.jpg"]]
    assert load_cuhk(cuhk_root, "test", gallery=0).galleries is None
    with pytest.raises(DataError, match="galleries of 50, 100"):
        load_cuhk(cuhk_root, "test", gallery=70)


def test_cuhk_subsets_have_their_own_queries_and_galleries(cuhk_root: Path) -> None:
    folder = cuhk_root / "annotation" / "test" / "subset"
    with pytest.raises(DataError, match=r"Resolution.mat: not found"):
        load_cuhk(cuhk_root, "test", subset="Resolution")
    folder.mkdir()
    query = {**appearance("s4.jpg", box(60000, 10, 10000, 50)), "idname": "p9"}
    gallery = [appearance("s3.jpg", box(40, 10, 20, 50)), appearance("s5.jpg", np.zeros((1, 0)))]
    entry = {"Query": struct([query], (1, 1)), "Gallery": struct(gallery, (1, 2))}
    savemat(folder / "Resolution.mat", {"Low_Resolution": struct([entry], (1, 1))})
    data = load_cuhk(cuhk_root, "test", subset="Resolution")
    assert [q.image for q in data.queries] == ["s4.jpg"]
    assert data.galleries == [["s3.jpg", "s5.jpg"]]
    assert [t.identities.tolist() for t in data.images] == [[-1, 1], [1], []]
    savemat(folder / "Occlusion.mat", {"something": np.zeros((2, 2))})
    with pytest.raises(DataError, match="expected one variable with Query and Gallery"):
        load_cuhk(cuhk_root, "test", subset="Occlusion")


def test_prws_two_odd_identities_are_unlabelled_in_training_but_nobody_elses(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    rows = np.array([[483.0, 5, 5, 10, 20], [932, 30, 5, 10, 20], [482, 60, 5, 10, 20], [-2, 90, 5, 10, 20]])
    savemat(tmp_path / "annotations" / "c1s1_000001.jpg.mat", {"box_new": rows})
    name = "c1s1_000001"
    for frames, expected in ((5704, [-1, -1, 482, -1]), (3, [483, 932, 482, -1])):
        savemat(tmp_path / "frame_train.mat", {"img_index_train": cell([name] * frames)})
        data = load_prw(tmp_path, "train")
        assert len(data.images) == frames
        assert data.images[-1].identities.tolist() == expected


def test_missing_files_and_roots_print_the_expected_tree(cuhk_root: Path, tmp_path: Path) -> None:
    (cuhk_root / "annotation" / "pool.mat").unlink()
    with pytest.raises(DataError, match=r"(?s)pool.mat: not found; .*Image/SSM/sN.jpg"):
        load_cuhk(cuhk_root, "train")
    for kind, word in (("prw", "frame_train.mat"), ("cuhk", "Train.mat"), ("json", "people.json")):
        with pytest.raises(DataError, match=word):
            load_split(SourceSettings(format=kind, root=str(tmp_path / "nowhere")), "train")
    result = call("train/run.py", "--config", "configs/paper.yaml", "--dry-run", f"out={tmp_path}/r")
    assert_user_error(result, "no such folder", "ROOT/frames/cXsY_NNNNNN.jpg", "ROOT/query_info.txt")


def coco_file(folder: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        cv2.imwrite(str(folder / name), np.zeros((100, 120, 3), np.uint8))
    content = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "camera": 1}, {"id": 2, "file_name": "b.jpg", "camera": 2},
            {"id": 7, "file_name": "c.jpg", "split": "train"},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 50], "identity": 4},
            {"image_id": 2, "category_id": 1, "bbox": [5, 5, 30, 60], "attributes": {"identity": 4}},
            {"image_id": 2, "category_id": 1, "bbox": [60, 5, 30, 60]},
            {"image_id": 2, "category_id": 3, "bbox": [0, 0, 90, 90], "identity": 9},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 90, 90], "iscrowd": 1},
        ],
    }  # fmt: skip
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def test_coco_becomes_people_with_identities_and_queries(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    result = call(
        "train/convert_data.py", "--format", "coco", "--root", coco_file(tmp_path), "--split", "test", "--out", out
    )
    assert result.returncode == 0, result.stderr
    assert "3 images, 3 people, 1 queries" in result.stdout
    test, train = load_json(out, "test"), load_json(out, "train")
    assert [t.identities.tolist() for t in test.images] == [[4], [4, -1]]
    assert test.queries[0].box.tolist() == [5, 5, 35, 65]  # the largest
    assert len(train.images[0].boxes) == 0  # a crowd region is no person
    assert cv2.imread(test.images[0].path) is not None
    assert_user_error(call("train/convert_data.py", "--format", "coco", "--root", "x", "--out", out), "exists")
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [], "annotations": [{"image_id": 3, "bbox": [1]}]}')
    assert_user_error(
        call("train/convert_data.py", "--format", "coco", "--root", broken, "--out", tmp_path / "n"), "annotations.0"
    )


def test_converted_prw_and_cuhk_load_as_the_original(cuhk_root: Path) -> None:
    from personsearch.train.convert_data import convert_splits

    convert_splits(SourceSettings(format="cuhk", root=str(cuhk_root)), cuhk_root / "converted")
    for split in ("train", "test"):
        before, after = load_cuhk(cuhk_root, split), load_json(cuhk_root / "converted", split)
        for a, b in zip(before.images, after.images, strict=True):
            assert np.array_equal(a.boxes, b.boxes)
            assert np.array_equal(a.identities, b.identities)
            assert Path(a.path).resolve() == Path(b.path).resolve()


def test_the_validator_names_every_problem_and_its_place(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((100, 120, 3), np.uint8))
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    person = {"box": [10, 10, 30, 60], "identity": 1}
    content = {
        "images": [
            {"file": "a.jpg", "people": [person, {"box": [50, 10, 0, 60]}, {"box": [200, 10, 30, 60]}]},
            {"file": "a.jpg", "people": [person, person]},
            {"file": "b.jpg", "split": "test", "people": [person]},
            {"file": "c.jpg", "split": "test", "people": [{"box": [100, 10, 60, 60], "identity": 2}]},
            {"file": "d.jpg"}, {"file": "e.jpg"},
        ],
        "queries": [
            {"file": "b.jpg", "box": [10, 10, 30, 60], "identity": 1},
            {"file": "b.jpg", "box": [60, 10, 30, 60], "identity": 3},
            {"file": "z.jpg", "box": [60, 10, 30, 60], "identity": 3},
        ],
    }  # fmt: skip
    (tmp_path / "people.json").write_text(json.dumps(content))
    result = call(
        "train/inspect_data.py", "--format", "json", "--root", tmp_path, "--out", tmp_path / "look", "--samples", 1
    )
    assert result.returncode == 1, result.stderr
    for words in (
        "a.jpg is listed 2 times", "images.0.people.1 (a.jpg): width and height must be above 0, got 0 x 60",
        "a.jpg: box [200.0, 10.0, 230.0, 70.0] is outside the 120x100 image", "identity 1 is in the picture 2 times",
        "only 33% inside", "d.jpg: cannot be read", "e.jpg: cannot be read", "identities [1] are in train and test",
        "queries.1 (b.jpg): no person of identity 3 is annotated at this box", "identity 3 is in no other test image",
        "queries.2 (z.jpg): the image is not in the test split",
    ):  # fmt: skip
        assert words in result.stdout, words
    assert (tmp_path / "look" / "identities.png").is_file()
    assert (tmp_path / "look" / "sample_a.jpg").is_file()


def test_several_bad_entries_are_all_named(tmp_path: Path) -> None:
    content = {
        "images": [{"file": "a.jpg", "split": "val"}, {"file": "b.jpg", "people": [{"box": [1, 2, 3], "name": 1}]}]
    }
    (tmp_path / "people.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        load_json(tmp_path, "train")
    for words in ("images.0.split", "images.1.people.0.box", "images.1.people.0.name"):
        assert words in str(error.value)


def test_a_clean_street_has_no_problems_and_empty_splits_are_named(tmp_path: Path) -> None:
    source = SourceSettings(format="street", frames=8, identities=12, cameras=2, people=3)
    assert list(problems(source)) == []
    (tmp_path / "people.json").write_text('{"images": [], "queries": []}')
    found = list(problems(SourceSettings(format="json", root=str(tmp_path))))
    assert found == [
        "train: the split is empty",
        "test: the split is empty",
        "queries: there are none, so search cannot be scored",
    ]


def test_a_download_is_compared_with_what_was_published(cuhk_root: Path, tmp_path: Path) -> None:
    options = ("train/inspect_data.py", "--published", "--samples", 0, "--out", tmp_path / "look", "--format")
    result = call(*options, "cuhk", "--root", cuhk_root)
    assert result.returncode == 1, result.stderr
    for words in (
        "Image/SSM/*.jpg: expected 18184 files as published", "train split: expected 11206 images as published, got",
        "test split: expected 2900 queries as published", "expected 5532 identities",
    ):  # fmt: skip
        assert words in result.stdout
    assert_user_error(call(*options, "json", "--root", tmp_path), "--published needs --format prw or cuhk, got json")
    whole = {
        split: SearchData(
            [ImageTruth(f"{n}", "", np.zeros((1, 4), np.float32), np.array([n % 481 + 1])) for n in range(images)],
            [Query(f"{n}", np.zeros(4, np.float32), n % 450) for n in range(queries)],
        )
        for split, (images, queries, _) in COUNTS["prw"].items()
    }
    assert [line for split, data in whole.items() for line in differences("prw", "x", split, data)] == []
    whole["test"].queries.pop()
    assert list(differences("prw", "x", "test", whole["test"])) == [
        "x: test split: expected 2057 queries as published, got 2056"
    ]
