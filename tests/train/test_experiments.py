"""The paper's experiments at a size of seconds: toy, ablation rows, separability by hand, plots and resuming."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY, assert_user_error, call, run, tiny_config

from personsearch.core.config import load_settings
from personsearch.core.errors import CheckpointError
from personsearch.train.model.network import PersonSearch
from personsearch.train.paper.ablation import ROWS, separability
from personsearch.train.paper.toy import METHODS, score
from personsearch.train.settings import ModelSettings, RpnSettings, TrainSettings
from personsearch.train.weights.checkpoint import fill_detector, load_checkpoint


def test_toy_shows_the_papers_order_on_every_seed() -> None:
    """Fig. 1: L2 alone squeezes identities, BatchNorm leans to the frequent ones, ProtoNorm shares the circle."""
    for seed in range(5):
        plain, batch, proto = (score(method, seed) for method in METHODS)
        assert plain.narrowest < batch.narrowest < proto.narrowest
        assert plain.spread > batch.spread > proto.spread
        assert plain.accuracy < batch.accuracy


def test_separability_by_hand() -> None:
    lut = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 0]])  # the last one was never written
    queue = torch.tensor([[0.0, -1], [0, 0]])
    result = separability(lut, queue, torch.tensor([9, 1, 1, 50]))
    assert result["lut"][0] == pytest.approx(1 / 3)  # cosines 0, 1, 0
    assert result["both"][0] == pytest.approx((1 - 1) / 6)  # and 0, -1, 0 with the queue's only row
    assert result["queue"][0] != result["queue"][0]  # one row has no pairs
    assert result["tail"][0] == pytest.approx((0 + 0.5) / 2)  # ids 2 and 3 with the other two each
    empty = separability(torch.zeros(3, 2), torch.zeros(0, 2), torch.zeros(3))
    assert all(value[0] != value[0] for value in empty.values())


def test_table_2_has_the_papers_five_rows_and_two_more() -> None:
    assert len({row.key for row in ROWS}) == 7
    assert [row.identity.get("loss") for row in ROWS[:5]] == ["oim", "oim", "oim", "loim", "loim"]


def test_the_ablations_network_finds_people_and_recognises_nobody_yet() -> None:
    """Its detector is the shipped one; everything that recognises starts from random weights."""
    settings = load_settings(REPOSITORY / "configs" / "ablation.yaml", TrainSettings)
    network = PersonSearch(settings.model)
    before = network.projection.weight.clone()
    shipped = load_checkpoint(REPOSITORY / settings.init)["model"]
    fill_detector(network, shipped, settings.init)
    assert torch.equal(network.rpn.person[0].weight, shipped["rpn.person.0.weight"].float())
    assert torch.equal(network.stem.stem[0].weight, shipped["stem.stem.0.weight"].float())
    assert torch.equal(network.projection.weight, before)
    resnet = PersonSearch(ModelSettings(backbone="resnet50", rpn=RpnSettings(kind="anchors")))
    with pytest.raises(CheckpointError, match="csp_nano"):
        fill_detector(resnet, shipped, settings.init)


def test_curves_need_two_seeds(tmp_path: Path) -> None:
    assert_user_error(run("train/experiments.py", "curves", "--seeds", 1, "--out", tmp_path), "at least 2")


def test_ablation_writes_table_plots_and_keeps_finished_runs(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "unused")
    config["optimiser"] |= {"epochs": 2, "steps_per_epoch": 1}
    config["data"]["train"] = [{"format": "street", "frames": 8, "identities": 12, "cameras": 2, "people": 3}]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    command = (
        "train/experiments.py",
        "ablation",
        "--config",
        tmp_path / "tiny.yaml",
        "--out",
        tmp_path,
        "--seeds",
        1,
        "--threads",
        1,
    )
    threads = torch.get_num_threads()
    first = call(*command)
    assert first.returncode == 0, first.stderr
    table = (tmp_path / "table2.md").read_text()
    assert all(row.title in table for row in ROWS)
    for name in ("table2.png", "fig5.png", "figS1.png", "table2.json"):
        assert (tmp_path / name).stat().st_size > 1000
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.json")}
    assert len(kept) == 7
    (tmp_path / "runs" / "pn-loim-0.json").unlink()
    again = call(*command)
    torch.set_num_threads(threads)
    assert again.returncode == 0, again.stderr
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.json")}.items() >= {
        k: v for k, v in kept.items() if k != "pn-loim-0.json"
    }.items()
