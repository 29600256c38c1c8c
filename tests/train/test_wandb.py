"""Figures of a run in Weights & Biases: a real offline run on disk, and a resumed run that is the same one."""

import json
import sys
from pathlib import Path

import pytest
from conftest import tiny_config

from personsearch.core.errors import ConfigError, UserError
from personsearch.train.loop.tracking import WANDB_FILE, Tracking
from personsearch.train.settings import TrainSettings


def settings_of(out: Path) -> TrainSettings:
    return TrainSettings.model_validate({**tiny_config(out), "tracking": "wandb"})


def test_a_missing_wandb_is_named_before_anything_is_loaded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"install personsearch\[wandb\], or set tracking=none"):
        Tracking(settings_of(tmp_path))


def test_an_offline_run_and_its_resumption(tmp_path: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    out.mkdir()
    tracking = Tracking(settings_of(out))
    try:
        tracking.open()
        run = tracking.sinks[-1]._run
        assert (run.name, run.project, run.config["optimiser.rate"]) == ("run", "personsearch", 0.001)
        tracking.log(1, {"loss/box": 2.0})
        tracking.close("KILLED")
        tracking.open()  # as a resumed run does, from a step that was logged already
        tracking.log(1, {"loss/box": 1.0})
        assert tracking.sinks[-1]._run.summary["loss/box"] == 1.0
        tracking.close("FINISHED")
    finally:
        wandb.teardown()
    kept = json.loads((out / WANDB_FILE).read_text())["run"]
    assert kept == run.id
    assert {file.name for file in out.rglob("*.wandb")} == {f"run-{kept}.wandb"}
    assert all(file.stat().st_size > 100 for file in out.rglob("*.wandb"))
    assert list(out.glob("events.out.tfevents.*"))  # TensorBoard has it as well


def test_who_is_not_logged_in_hears_what_to_do(tmp_path: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")

    def refused(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refused)
    with pytest.raises(UserError, match="set WANDB_MODE=offline, or tracking=none"):
        Tracking(settings_of(tmp_path)).open()
