"""best.pth is the validated best of a run; averaged weights are what is judged, and resume exactly."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import assert_user_error, call, tiny_config
from test_resume import assert_same_run

from personsearch.core.evaluation import Report
from personsearch.train import run as train_run
from personsearch.train.loop.average import Average
from personsearch.train.loop.optimiser import scaled_rate
from personsearch.train.loop.summary import describe, write_summary
from personsearch.train.loop.trainer import Trainer
from personsearch.train.settings import OptimiserSettings, TrainSettings
from personsearch.train.weights.checkpoint import load_checkpoint


def settings_of(out: Path, every: int = 0, **optimiser: object) -> TrainSettings:
    config = tiny_config(out)
    config["optimiser"] |= optimiser
    return TrainSettings.model_validate({**config, "device": "cpu", "evaluate_every": every})


class Judged:
    """Stands for a report: the figures that a validation is to give."""

    def __init__(self, score: float) -> None:
        self.score = score

    def figures(self) -> dict[str, float]:
        return {"mAP": self.score, "top-1": 0.5, "detection AP": 0.5}


def moved(trainer: Trainer, batches: list) -> dict[str, torch.Tensor]:
    """Stands for a step: what it does is tested elsewhere."""
    with torch.no_grad():
        trainer.network.projection.weight += 1
    trainer.step += 1
    return {"loss": torch.tensor(1.0)}


def test_best_pth_is_the_first_of_the_highest_map_and_the_last_may_be_worse(tmp_path: Path, monkeypatch) -> None:
    scores = iter([0.2, 0.6, 0.6, 0.3])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: Judged(next(scores)))
    monkeypatch.setattr(Trainer, "train_step", moved)
    trainer = Trainer(settings_of(tmp_path, every=1, epochs=4, steps_per_epoch=1, batch=1))
    assert trainer.run()
    report: Report = trainer.conclude()
    best, last = load_checkpoint(tmp_path / "best.pth"), load_checkpoint(tmp_path / "last.pth")
    assert (best["step"], last["step"]) == (2, 4)
    assert [row["mAP"] for row in best["history"]] == [0.2, 0.6]
    assert any(not torch.equal(best["model"][name], last["model"][name]) for name in best["model"])
    assert "best.pth: mAP 0.600 after step 2" in write_summary(trainer, report).read_text()
    scores = iter([0.61])  # a resumed run remembers what was best
    again = Trainer(settings_of(tmp_path, every=1, epochs=4, steps_per_epoch=1, batch=1), resume=True)
    assert again.run()
    again.conclude()
    assert load_checkpoint(tmp_path / "best.pth")["step"] == 4


def test_an_average_follows_by_its_decay_and_copies_counters() -> None:
    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.weight = torch.nn.BatchNorm1d(2), torch.nn.Parameter(torch.zeros(3))

    network = Small()
    average = Average(network, 0.9)  # type: ignore[arg-type]
    expected = 0.0
    for step, value in enumerate([1.0, 5.0, -2.0] + [3.0] * 100):
        with torch.no_grad():
            network.weight.fill_(value)
            network.norm.running_mean.fill_(value)
            network.norm.num_batches_tracked += 1
        average.update(network, step)  # type: ignore[arg-type]
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.network.weight.tolist() == pytest.approx([expected] * 3, abs=1e-5)
        assert average.network.norm.running_mean.tolist() == pytest.approx([expected] * 2, abs=1e-5)
    assert int(average.network.norm.num_batches_tracked) == 103
    assert not average.network.weight.requires_grad


def test_a_run_with_averaged_weights_resumes_bit_for_bit_and_is_judged_by_them(tmp_path: Path, monkeypatch) -> None:
    settings = settings_of(tmp_path, ema=0.95, steps_per_epoch=3, epochs=1, batch=1)
    whole = Trainer(settings)
    whole.network.train()
    for batches in whole.batches():
        whole.train_step(batches)
        if whole.step == 1:
            whole.save("last.pth")
    whole.save("whole.pth")
    resumed = Trainer(settings, resume=True)
    resumed.network.train()
    for batches in resumed.batches():
        resumed.train_step(batches)
    resumed.save("resumed.pth")
    assert_same_run(tmp_path / "whole.pth", tmp_path / "resumed.pth")
    contents = [load_checkpoint(tmp_path / f"{name}.pth") for name in ("whole", "resumed")]
    learning, again = (content["learning"] for content in contents)
    assert all(torch.equal(learning[name], again[name]) for name in learning)
    averaged = contents[0]["model"]
    assert not torch.equal(averaged["projection.weight"], learning["projection.weight"])
    judged = []
    monkeypatch.setattr("personsearch.train.loop.trainer.run_model", lambda searcher, *_, **__: judged.append(searcher))
    monkeypatch.setattr("personsearch.train.loop.trainer.score_run", lambda *_, **__: None)
    resumed.evaluate()
    assert all(torch.equal(averaged[name], value) for name, value in judged[0].network.state_dict().items())


def test_the_rate_is_scaled_from_the_batch_that_it_is_meant_for(tmp_path: Path) -> None:
    plain = OptimiserSettings(kind="sgd", rate=0.003)
    assert scaled_rate(plain, 40) == 0.003
    assert scaled_rate(OptimiserSettings(kind="sgd", rate=0.003, rate_at_batch=5), 40) == pytest.approx(0.024)
    assert scaled_rate(OptimiserSettings(kind="adamw", rate=0.001, rate_at_batch=16), 4) == pytest.approx(0.0005)
    trainer = Trainer(settings_of(tmp_path, rate=0.001, batch=2, accumulate=4, rate_at_batch=2, detector_rate=0.1))
    assert [g["base_rate"] for g in trainer.optimiser.param_groups] == pytest.approx([0.002, 0.0002])
    assert "learning rate 0.002 for 8 images a step: 0.001 for 2" in describe(trainer)


def test_profile_says_what_steps_of_the_run_cost_and_saves_no_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(train_run, "PROFILED", 1)
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_config(tmp_path / "out") | {"device": "cpu"}))
    command = ("train/run.py", "--config", config, "--profile", "optimiser.batch=1")
    result = call(*command)
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("{"))
    figures = json.loads(line)
    assert figures["images_per_step"] == 1
    assert 0 < figures["s_waiting_for_data"] < figures["s_per_step"]
    assert "aten::" in result.stdout
    trace = json.loads((tmp_path / "out" / "trace.json").read_text())
    assert len(trace["traceEvents"]) > 100
    assert not (tmp_path / "out" / "last.pth").exists()
    short = call(*command, "optimiser.epochs=1", "optimiser.steps_per_epoch=1")
    assert_user_error(short, "2 steps, but the run has 1", "optimiser.epochs")
