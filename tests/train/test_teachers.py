"""Teachers of a distillation, what the student is compared with, and what a shipped start says of them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import BundleError, DataError
from personsearch.core.street.street import Street, StreetSettings
from personsearch.train.teaching.teacher import TeacherSpace, load_teacher
from personsearch.train.weights.checkpoint import load_checkpoint, load_network, save_weights


def test_a_bundle_teaches_its_own_embeddings(tiny_bundle: Path) -> None:
    frame = Street(StreetSettings(seed=4)).frame(0, 20)
    teacher = load_teacher(str(tiny_bundle))
    expected = BundleSearcher(tiny_bundle, threads=1).embed(frame.image, frame.boxes)
    assert len(expected) == len(frame.boxes) > 0
    assert np.allclose(teacher(frame.image, frame.boxes), expected, atol=1e-5)
    travelled = pickle.loads(pickle.dumps(teacher))  # to a loading process, which opens its own engine
    assert np.allclose(travelled(frame.image, frame.boxes[:1]), expected[:1], atol=1e-5)
    assert teacher(frame.image, np.zeros((0, 4), np.float32)).shape == (0, expected.shape[1])


def test_a_teacher_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found; expected a teacher"):
        load_teacher(str(tmp_path / "reid.xml"))
    with pytest.raises(BundleError):
        load_teacher(str(tmp_path))


def people(count: int, dimensions: int = 8) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, dimensions, generator=torch.Generator().manual_seed(1)))


def test_direction_wants_the_teachers_space_and_structure_any_rotation_of_it() -> None:
    teacher, weights = people(32), torch.ones(32)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2)))
    for direction, structure, turned_costs in ((1.0, 0.0, True), (0.0, 4.0, False)):
        space = TeacherSpace(8, direction, structure)
        target = space.target(teacher)
        space.eval()
        assert float(space(target, teacher, weights)) == pytest.approx(0.0, abs=1e-5)
        turned = float(space(target @ turn, teacher, weights))
        assert turned > 0.5 if turned_costs else turned == pytest.approx(0.0, abs=1e-5)


def test_badly_cut_people_count_less_and_nobody_counts_nothing() -> None:
    teacher = people(6)
    space = TeacherSpace(8, 1.0, 0.0)
    student = space.target(teacher).clone()
    student[0] = -student[0]
    space.eval()
    losses = [float(space(student, teacher, torch.tensor([w, 1, 1, 1, 1, 1.0]))) for w in (1.0, 0.5, 0.0)]
    assert losses[0] > losses[1] > losses[2] == pytest.approx(0.0, abs=1e-5)
    assert float(space(student[:0], teacher[:0], torch.ones(0))) == 0.0


def test_teachers_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match="16 numbers a person"):
        TeacherSpace(8).target(people(3, 16))


def test_shipped_weights_do_not_say_where_data_was_kept(tiny_checkpoint: Path, tmp_path: Path) -> None:
    network, content = load_network(tiny_checkpoint)
    config = {**content["config"], "init": "/home/somebody/yolox.onnx"}
    config["data"] = {**config["data"], "train": [{"format": "json", "root": "/data/shop/"}]}
    save_weights(tmp_path / "weights.pth", network, config)
    kept = load_checkpoint(tmp_path / "weights.pth")["config"]
    assert kept["init"] == "yolox.onnx"
    assert kept["data"]["train"][0]["root"] == "shop"
    assert kept["model"] == config["model"]
