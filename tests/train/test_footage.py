"""Unlabelled footage becomes a data set: detections, tracks as identities, a held-out end."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, assert_user_error, call, liven, run, tiny_config

from personsearch.core.errors import DataError
from personsearch.core.evaluation import Run, cosine_of_different_people
from personsearch.core.records import ImageTruth
from personsearch.core.street.street import Street, StreetSettings
from personsearch.train.data.json_data import load_json
from personsearch.train.data.prw import SearchData
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.torch_searcher import TorchSearcher
from personsearch.train.settings import TrainSettings
from personsearch.train.teaching.footage import label_footage, read_frames
from personsearch.train.teaching.recentre import recentre, spread
from personsearch.train.weights.checkpoint import load_checkpoint, load_network, save_checkpoint

FRAMES = 60


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(StreetSettings(seed=9, people=4, cameras=2, identities=24))


@pytest.fixture(scope="module")
def video(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("footage") / "street.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 384))
    for number in range(FRAMES):
        writer.write(street.frame(1, number * 5).image)
    writer.release()
    return path


class Truth:
    """The street's own boxes and one direction per person, in the order of the frames."""

    def __init__(self, street: Street) -> None:
        self.street, self.number = street, -1

    def detect(self, _: np.ndarray) -> np.ndarray:
        self.number += 1
        return self.street.truth(1, self.number * 5).boxes

    def embed(self, _: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.eye(24, dtype=np.float32)[self.street.truth(1, self.number * 5).identities]


def test_tracks_become_identities_and_the_end_is_held_out(street: Street, video: Path, tmp_path: Path) -> None:
    truth = Truth(street)
    made = label_footage([str(video)], tmp_path, truth.detect, truth.embed, every=1, held_out=0.4)
    assert len(made.frames) == FRAMES
    train, test = load_json(tmp_path, "train"), load_json(tmp_path, "test")
    assert (len(train.images), len(test.images)) == (36, 24)
    for images in (train.images, test.images):
        for position, image in enumerate(images):
            number = position + (36 if images is test.images else 0)
            assert np.allclose(image.boxes, street.truth(1, number * 5).boxes, atol=0.1)
    owners: dict[int, set[int]] = {}
    for position, image in enumerate([*train.images, *test.images]):
        for identity, person in zip(image.identities, street.truth(1, position * 5).identities, strict=True):
            if identity >= 0:
                owners.setdefault(int(identity), set()).add(int(person))
    assert owners
    assert all(len(people) == 1 for people in owners.values())  # no track mixes two people
    trained = {int(i) for image in train.images for i in image.identities} - {-1}
    assert not trained & {query.identity for query in test.queries}


def test_people_are_linked_across_cameras(street: Street, tmp_path: Path) -> None:
    count = 150  # 30 seconds of two cameras, whose pictures nobody looks at
    seen = [street.truth(1 - number // count, number % count * 2) for number in range(2 * count)]
    path = tmp_path / "dark.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(count):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    for held_out in (0.0, 0.4):
        boxes, people = iter(seen), iter(seen)
        made = label_footage(
            [str(path)] * 2, tmp_path / str(held_out), lambda _, rest=boxes: next(rest).boxes,
            lambda _, __, rest=people: np.eye(24, dtype=np.float32)[next(rest).identities],
            every=1, held_out=held_out, across=True,
        )  # fmt: skip
        kept = {(Path(f.file).name, p.box): p.identity for f in made.frames for p in f.people}
        owners: dict[int, set[tuple[int, int]]] = {}
        for number, frame in enumerate(seen):
            camera = 1 + number // count
            for box, person in zip(frame.boxes.astype(float), frame.identities, strict=True):
                place = (box[0], box[1], box[2] - box[0], box[3] - box[1])
                identity = kept[f"c{camera}_{number % count:06d}.jpg", place]
                if identity is not None:
                    owners.setdefault(identity, set()).add((camera, int(person)))
        assert all(len({person for _, person in places}) == 1 for places in owners.values())  # nobody is two people
        linked = sum(len({camera for camera, _ in places}) == 2 for places in owners.values())
        assert held_out or linked >= 4  # of six who are in both
        known = {p.identity for f in made.frames if f.split == "train" for p in f.people} - {None}
        assert not known & {query.identity for query in made.queries}  # whoever was seen in any camera is not new


def test_without_tracking_nobody_has_an_identity(street: Street, video: Path, tmp_path: Path) -> None:
    made = label_footage([str(video)], tmp_path, Truth(street).detect, every=20)
    assert (len(made.frames), made.identities) == (3, 0)
    assert not load_json(tmp_path, "test").images


def test_a_limit_ends_a_source(video: Path) -> None:
    assert len(list(read_frames(str(video), 2, 5))) == 5


def test_unreadable_sources_are_named_without_their_password(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.avi: no such file"):
        next(read_frames(str(tmp_path / "none.avi"), 1))
    with pytest.raises(DataError) as caught:
        next(read_frames("http://u:secret@127.0.0.1:9/x", 1))
    assert "secret" not in str(caught.value)


def test_collapsed_embeddings_show_in_the_cosine() -> None:
    truth = ImageTruth("a.jpg", "", np.zeros((3, 4), np.float32), np.array([1, 2, -1]), 1)
    for rows, expected in ((np.eye(3), 0.0), (np.ones((3, 3)) / np.sqrt(3), 1.0)):
        run_of = Run({}, {"a.jpg": rows.astype(np.float32)}, np.zeros((0, 3)))
        assert cosine_of_different_people(run_of, [truth]) == pytest.approx(expected)
    assert cosine_of_different_people(Run({}, {}, np.zeros((0, 3))), []) == 0.0


def test_adapting_reports_before_and_after_and_goes_on_when_stopped(video: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "tiny"  # the shipped network finds and follows people; a tiny one learns from it
    shutil.copytree(REPOSITORY / "models" / "edge", bundle)
    config = tiny_config(tmp_path, identity={"dimensions": 256, "queue": 20}, freeze_norms=True)
    settings = TrainSettings.model_validate(config)
    network = PersonSearch(settings.model)
    liven(network)
    content = {"config": settings.model_dump(mode="json"), "model": network.state_dict()}
    save_checkpoint(bundle / "weights.pth", content)
    weights = (bundle / "weights.pth").read_bytes()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["weights.pth"] = {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    command = ["train/adapt.py", "--video", video, "--bundle", bundle, "--every", 1, "--out", tmp_path / "a"]
    command += ["--held-out", 0.4]
    done = call(*command, "--steps", 2, "--batch", 2)
    assert done.returncode == 0, done.stderr
    assert "| before | statistics | trained |" in done.stdout
    assert "before" in (tmp_path / "a" / "adapt.md").read_text()
    start, last, statistics, trained = (
        load_checkpoint(tmp_path / "a" / f"{n}.pth")["model"] for n in ("start", "last", "statistics", "trained")
    )
    head = [k for k in start if not k.startswith("norm.") and "running" not in k and "tracked" not in k]
    assert any(not torch.equal(start[k], last[k]) for k in head)
    assert all(torch.equal(statistics[k], start[k]) for k in head)
    assert all(torch.allclose(trained[k].float(), (start[k] + last[k]) / 2, atol=1e-6) for k in head)
    for model in (statistics, trained):
        assert not torch.allclose(model["norm.running_mean"], start["norm.running_mean"], atol=1e-2)
    again = call(*command, "--steps", 2, "--batch", 2)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    quick = call(*command, "--steps", 0)  # with the figures that the first run left
    assert quick.returncode == 0, quick.stderr
    assert "| before | statistics |\n" in quick.stdout
    assert_user_error(run("train/adapt.py", "--video", "rtsp://127.0.0.1/x"), "--frames")  # started for real


def test_a_blend_needs_two_checkpoints_of_one_network(tmp_path: Path) -> None:
    first, second, other = (tmp_path / f"{name}.pth" for name in ("first", "second", "other"))
    for path, model in (
        (first, {"w": torch.zeros(2), "n": torch.tensor(3)}),
        (second, {"w": torch.ones(2), "n": torch.tensor(7)}),
        (other, {"w": torch.ones(3), "n": torch.tensor(7)}),
    ):
        save_checkpoint(path, {"config": {"out": path.stem}, "model": model})
    out = tmp_path / "blend.pth"
    done = call("train/blend.py", first, second, "--share", 0.25, "--statistics", 0, "--out", out)
    assert done.returncode == 0, done.stderr
    content = load_checkpoint(out)
    assert content["config"] == {"out": "second"}
    assert content["model"]["w"].tolist() == [0.25, 0.25]
    assert content["model"]["n"].item() == 7  # counts are not averaged
    assert_user_error(call("train/blend.py", first, other, "--out", out), "'w' differs")
    assert_user_error(call("train/blend.py", first, tmp_path / "none.pth", "--out", out), "not found")
    assert_user_error(run("train/blend.py", first, second, "--share", 2, "--out", out), "from 0 to 1")


def test_people_of_another_size_in_pixels(tiny_checkpoint: Path, tmp_path: Path) -> None:
    weights = REPOSITORY / "models" / "light" / "weights.pth"
    out = tmp_path / "small.pth"
    options = ("--statistics", 0, "--out", out)
    done = call("train/blend.py", weights, weights, "--people", "160x80", *options)
    assert done.returncode == 0, done.stderr
    network, content = load_network(out)
    assert (network.settings.roi.height, network.settings.roi.width) == (160, 80)
    sums = [c["model"]["head.pool.weight"].float().sum((1, 2, 3)) for c in (load_checkpoint(weights), content)]
    assert torch.cosine_similarity(*sums, dim=0) > 0.99  # a constant picture gives about the same
    assert network.embed_boxes(torch.zeros(1, 384, 640, 3), [torch.tensor([[0.0, 0, 40, 80]])]).shape == (1, 256)
    assert_user_error(call("train/blend.py", weights, weights, "--people", "100x80", *options), "multiples of 16")
    assert_user_error(
        call("train/blend.py", tiny_checkpoint, tiny_checkpoint, "--people", "160x80", *options), "omniscale"
    )


def test_statistics_of_the_footage_centre_its_people(street: Street, tmp_path: Path) -> None:
    images = []
    for number in range(0, 40, 8):
        frame = street.frame(1, number)
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame.image)
        images.append(ImageTruth(f"{number}.png", str(tmp_path / f"{number}.png"), frame.boxes, frame.identities, 1))
    network, _ = load_network(REPOSITORY / "models" / "light" / "weights.pth")
    rows: list[torch.Tensor] = []
    network.norm.register_forward_hook(lambda module, _, made: rows.append(made))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    people = {int(i) for image in images for i in image.identities if i >= 0}
    for few in ([], [replace(images[0], identities=np.where(images[0].identities == min(people), 0, -1))]):
        assert recentre(network, SearchData(few, [])) == 0  # nobody, or one person: no variance
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert recentre(network, SearchData(images, [])) == len(people)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert (network.norm.momentum, network.training) == (0.1, False)
    rows.clear()
    searcher = TorchSearcher(network)
    for image in images:
        searcher.embed(cv2.imread(image.path), image.boxes)
    labels = np.concatenate([image.identities for image in images])
    prototypes = torch.stack([torch.cat(rows)[labels == person].mean(0) for person in sorted(people)])
    assert prototypes.mean(0).abs().max() < 1e-3  # Eq. 5: the mean of the prototypes, whoever is seen how often


def test_sightings_are_spread_over_what_each_person_did() -> None:
    images = [
        ImageTruth(f"{i}.jpg", "", np.zeros((2, 4), np.float32), np.array([7, 3 if i < 2 else -1]), 1) for i in range(9)
    ]
    assert spread(SearchData(images, []), 3) == {0: [(0, 7), (1, 3)], 1: [(1, 3)], 4: [(0, 7)], 8: [(0, 7)]}
