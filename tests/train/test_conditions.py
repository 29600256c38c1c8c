"""Regions computed once, images composed of them, pairs of short runs, and what is said of their differences."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, assert_user_error, call

from personsearch.core.boxes import iou
from personsearch.core.errors import DataError
from personsearch.core.records import ImageTruth
from personsearch.train.data.samples import read_image
from personsearch.train.data.street_data import street_split
from personsearch.train.paper.ablation import ROWS
from personsearch.train.paper.branch import Condition, Scenes, score_branch, train_branch
from personsearch.train.paper.conditions import (
    BASE,
    DIFFERENCES,
    FIGURES,
    METHODS,
    SWEEPS,
    Gap,
    Results,
    draw,
    gaps,
    identity_of,
    table,
)
from personsearch.train.paper.curves import FIGURES as COSINES
from personsearch.train.paper.curves import differences, occurrences, run_curve
from personsearch.train.paper.regions import (
    MOVED,
    NOBODY,
    PROPOSED,
    TRUTH,
    UNKNOWN,
    Regions,
    asking,
    compute,
    moved_boxes,
    regions_of,
)
from personsearch.train.settings import SourceSettings
from personsearch.train.weights.checkpoint import load_network

SMALL = Condition(images=12, steps=6, batch=2)
FRAMES, PEOPLE = 24, 12


@pytest.fixture(scope="module")
def regions() -> Regions:
    """Three of twelve people a frame in two cameras: of each two proposals, two moved boxes, the truth; background."""
    rng = np.random.default_rng(0)
    looks, rows = rng.normal(size=(PEOPLE, 16)), []
    for frame in range(FRAMES):
        people = [(frame + 4 * i) % PEOPLE for i in range(3)]
        kinds = [(PROPOSED, 0.9), (PROPOSED, 0.55), (MOVED, 0.85), (MOVED, 0.6)]
        rows += [(frame, p, kind, overlap) for p in people for kind, overlap in kinds]
        rows += [(frame, -1, PROPOSED, 0.1)] * 20 + [(frame, p, TRUTH, 1.0) for p in people]
    frames, whose, origin, ious = (np.array(column) for column in zip(*rows, strict=True))
    features = np.where(whose[:, None] >= 0, looks[whose] + 3, 0) + rng.normal(size=(len(rows), 16)) * 0.3
    features = np.concatenate([features, rng.normal(size=(len(rows), 8)) * 4], 1)  # channels that say nothing
    boxes = np.stack([10.0 * whose, 0 * whose, 10.0 * whose + 8, 0 * whose + 20], 1)
    return Regions(
        features.astype(np.float16), frames, frames * 2 // FRAMES + 1, whose, boxes.astype(np.float32),
        ious.astype(np.float32),
        np.ones(len(rows), np.float32), origin, (origin == PROPOSED) & (ious > 0.8), asking(whose, origin == TRUTH),
    )  # fmt: skip


def test_an_image_is_people_by_frequency_then_background_and_the_truth_last(regions: Regions) -> None:
    scenes = Scenes(regions, replace(SMALL, imbalance=3.0, images=200), 0)
    assert sorted(scenes.labels.values()) == list(range(1, PEOPLE - 3 + 1))  # a quarter has no label
    drawn = np.concatenate([np.unique(regions.people[rows]) for rows, _, _ in scenes.images])
    counts = np.sort(np.bincount(drawn, minlength=PEOPLE))
    assert counts.max() > 5 * max(1, counts[0])
    rows, labels = scenes.draw(0, np.random.default_rng(0))
    background = labels == 0
    assert (regions.people[rows][background] == -1).all()
    assert background.mean() == pytest.approx(0.75, abs=0.02)
    assert regions.origin[rows].tolist()[-3:] == [TRUTH] * 3
    assert not (regions.origin[rows] == MOVED).any()  # as the network proposes
    for row, label in zip(rows[~background], labels[~background], strict=True):
        assert label == scenes.labels.get(int(regions.people[row]), -1)


@pytest.mark.parametrize(("share", "truth"), [(0.0, True), (0.5, True), (1.0, False)])
def test_the_share_of_misaligned_proposals_is_what_was_asked_for(regions: Regions, share: float, truth: bool) -> None:
    scenes = Scenes(regions, replace(SMALL, misaligned=share, truth=truth, background=0.0), 0)
    rows, labels = scenes.draw(3, np.random.default_rng(0))
    assert (labels != 0).all()
    free = regions.ious[rows][regions.origin[rows] != TRUTH]
    assert (free < 0.65).mean() == pytest.approx(share)
    assert ((free < 0.65) | (free >= 0.8)).all()
    assert (regions.origin[rows] == TRUTH).any() == truth


def test_training_sees_the_cameras_that_it_may_see(regions: Regions) -> None:
    scenes = Scenes(regions, replace(SMALL, cameras=1), 0)
    assert {int(c) for rows, _, _ in scenes.images for c in regions.cameras[rows]} == {1}


def test_equal_seeds_are_pairs_and_training_helps(regions: Regions) -> None:
    identity = identity_of(METHODS["pn-loim"])
    longer = replace(SMALL, images=60, steps=60, people=3)
    first, again = (train_branch(regions, longer, identity, 1) for _ in range(2))
    assert torch.equal(first.projection.weight, again.projection.weight)
    start = train_branch(regions, replace(longer, steps=0), identity, 1)
    plain = train_branch(regions, replace(longer, steps=0), identity_of(METHODS["none-oim"]), 1)
    assert torch.equal(start.projection.weight, plain.projection.weight)  # the same first weights, whatever the method
    scores = score_branch(first, regions)
    assert set(scores) == set(FIGURES)
    assert scores["re-ID"] > score_branch(plain, regions)["re-ID"] + 5


def test_one_camera_has_no_galleries_of_others(regions: Regions) -> None:
    alone = replace(regions, cameras=np.ones_like(regions.cameras))
    scores = score_branch(train_branch(alone, replace(SMALL, steps=0), identity_of(METHODS["bn-oim"]), 0), alone)
    assert set(scores) == {"search", "re-ID"}
    rows = {key: [scores] * 2 for key in ("bn-oim", "pn-oim")}
    lines = table(SWEEPS["people"], {1: rows, 3: rows})
    assert [line.split("|")[1].strip() for line in lines if "mAP" in line] == [
        "people per image: search mAP",
        "people per image: re-ID mAP",
    ]


def test_curves_have_the_cosines_of_every_epoch(regions: Regions) -> None:
    curve = run_curve(regions, ROWS[1], 0, replace(SMALL, steps=3 * SMALL.images // SMALL.batch))
    assert len(curve["separability"]) == 3
    assert curve["separability"][0] != curve["separability"][2]
    scenes = Scenes(regions, SMALL, 0)
    counts = occurrences(scenes)
    drawn = [set(regions.people[rows].tolist()) & set(scenes.labels) for rows, _, _ in scenes.images]
    assert counts.sum() == sum(map(len, drawn))


def test_differences_of_curves_are_paired() -> None:
    def runs(*levels: float) -> list[dict]:
        return [{"separability": [{name: [level, 0.3] for name in COSINES}] * 20} for level in levels]

    assert differences(runs(0.1, 0.2, 0.3), runs(0.2, 0.3, 0.4))[-1] == "| 20 |" + " **-0.100 ± 0.000** |" * 5


def test_people_can_count_by_their_rois_while_the_background_is_one(regions: Regions) -> None:
    """Without background, ProtoNorm with each RoI a prototype is BatchNorm."""
    only = replace(SMALL, background=0.0)
    alone = train_branch(regions, only, identity_of(METHODS["pn-alone"]), 0, each_alone=True)
    batch = train_branch(regions, only, identity_of(METHODS["bn-oim"]), 0)
    assert torch.allclose(alone.projection.weight, batch.projection.weight, atol=1e-5)
    assert torch.allclose(alone.norm.running_mean, batch.norm.norm.running_mean, atol=1e-5)
    assert torch.allclose(alone.norm.running_var, batch.norm.norm.running_var, atol=1e-4)


def test_gaps_are_paired_and_say_when_they_are_sure() -> None:
    gap = Gap.of(np.array([1.0, 2.0, 3.0]))
    assert (gap.mean, gap.half) == (pytest.approx(2.0), pytest.approx(4.303 / 3**0.5, rel=1e-3))
    assert (gap.sure, str(gap)) == (False, "+2.00 ± 2.48")
    assert str(Gap.of(np.array([-1.0, -1.1, -0.9]))) == "**-1.00 ± 0.25**"
    assert gaps({"bn-oim": [dict.fromkeys(FIGURES, 1.0)]}) == {}  # one seed has no interval


def test_sweeps_vary_one_condition_and_know_the_papers_differences() -> None:
    assert {key for better, worse in DIFFERENCES.values() for key in (better, worse)} == set(METHODS)
    for sweep in SWEEPS.values():
        for condition in sweep.points.values():
            changed = [name for name, value in vars(condition).items() if value != getattr(BASE, name)]
            assert len(changed) <= 3, sweep.title


def test_results_are_kept_and_drawn(tmp_path: Path) -> None:
    kept = Results(tmp_path / "runs.jsonl")
    rng, results = np.random.default_rng(0), {"imbalance": {}, "base": {}}
    made = lambda: {name: float(rng.random()) for name in FIGURES}  # noqa: E731
    for point, condition in SWEEPS["imbalance"].points.items():
        results["imbalance"][point] = {
            key: [kept.get(condition, key, s, made) for s in range(3)]
            for key in METHODS if key != "none-oim"
        }  # fmt: skip
    again = Results(tmp_path / "runs.jsonl")
    one = next(iter(SWEEPS["imbalance"].points.values()))
    assert again.get(one, "bn-oim", 0, lambda: pytest.fail("was run")) == results["imbalance"][0.0]["bn-oim"][0]
    lines = table(SWEEPS["imbalance"], results["imbalance"])
    assert sum(line.startswith("| imbalance: ") for line in lines) == 3
    draw(results, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    (tmp_path / "runs.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="remove it"):
        Results(tmp_path / "runs.jsonl")


def test_moved_boxes_overlap_as_much_as_they_should() -> None:
    box = np.array([10.0, 20, 40, 100])
    moved = moved_boxes(box, 200, np.random.default_rng(0))
    overlaps = iou(moved, box[None])[:, 0]
    assert overlaps.min() >= 0.5 - 1e-4
    assert np.percentile(overlaps, [25, 50, 75]) == pytest.approx([0.625, 0.75, 0.875], abs=0.06)
    assert moved_boxes(box, 0, np.random.default_rng(0)).shape == (0, 4)


@pytest.mark.parametrize("kind", ["coco", pytest.param("reid", marks=pytest.mark.slow)])
def test_regions_of_the_street_are_computed_once(tmp_path: Path, kind: str) -> None:
    source = SourceSettings(format="street", identities=8, frames=2, cameras=2, people=4)
    weights = REPOSITORY / "models" / "light" / "weights.pth"
    regions = regions_of(source, "test", kind, weights, tmp_path)
    data, truth = regions.data(), street_split(source, "test")
    for ours, theirs in zip(data.images, truth.images, strict=True):
        assert np.array_equal(ours.boxes, theirs.boxes)
        assert (ours.identities.tolist(), ours.camera) == (theirs.identities.tolist(), theirs.camera)
    assert np.isfinite(regions.features.astype(np.float32)).all()
    assert regions.found.any()
    people = regions.people >= 0
    assert regions.ious[people & (regions.origin == PROPOSED)].min() >= 0.5
    assert (regions.origin == MOVED).any() == (kind != "reid")
    file = tmp_path / f"regions-test-{kind}.npz"
    before = file.stat().st_mtime_ns
    again = regions_of(source, "test", kind, weights, tmp_path)
    assert np.array_equal(again.features, regions.features)
    assert file.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="choose another folder"):
        regions_of(source.model_copy(update={"seed": 1}), "test", kind, weights, tmp_path)
    file.write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(DataError, match="remove it"):
        regions_of(source, "test", kind, weights, tmp_path)


def test_frames_of_any_size_and_people_without_a_name(tmp_path: Path) -> None:
    """Boxes stay those of the frame, and somebody who is not named is no background."""
    drawn = street_split(SourceSettings(format="street", identities=8, frames=2, cameras=2, people=4), "test").images[0]
    frame = cv2.resize(read_image(drawn), (1280, 768))
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    identities = np.where(np.arange(len(drawn.boxes)) == 0, -1, drawn.identities)
    truth = ImageTruth("frame.png", str(tmp_path / "frame.png"), drawn.boxes * 2, identities, 1)
    regions = compute(load_network(REPOSITORY / "models" / "light" / "weights.pth")[0], [truth], "coco")
    (again,) = regions.data().images
    assert np.allclose(again.boxes, truth.boxes)
    assert again.identities.tolist() == identities.tolist()
    proposed = regions.boxes[(regions.people == UNKNOWN) & (regions.origin == PROPOSED)]
    assert len(proposed)
    assert iou(proposed, truth.boxes[:1]).min() >= 0.5
    assert iou(regions.boxes[regions.people == NOBODY], truth.boxes).max() < 0.5


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    assert_user_error(call("train/conditions.py", "--sweep", "weather", "--out", tmp_path), "imbalance")
    assert_user_error(call("train/conditions.py", "--seeds", 1, "--out", tmp_path), "at least 2")
    assert not list(tmp_path.iterdir())
