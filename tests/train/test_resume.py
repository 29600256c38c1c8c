"""A run that goes on in another process is the run that was never stopped: exactly, for every preset."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import train_presets
import yaml
from conftest import REPOSITORY, assert_user_error, call, run, tiny_config
from train_presets import PRESETS

from personsearch.core.errors import CheckpointError
from personsearch.core.locks import only_one
from personsearch.train.loop.trainer import Trainer
from personsearch.train.settings import TrainSettings
from personsearch.train.weights.checkpoint import load_checkpoint, save_checkpoint


def moments(content: dict) -> dict[str, torch.Tensor]:
    """The optimiser's tensors under the names of their parameters."""
    state, named = content["optimiser"]["state"], {}
    for group in content["optimiser"]["param_groups"]:
        for index, name in zip(group["params"], group["param_names"], strict=True):
            named |= {f"{name} {key}": v for key, v in state.get(index, {}).items() if isinstance(v, torch.Tensor)}
    return named


def assert_same_run(one: Path, other: Path) -> None:
    first, second = load_checkpoint(one), load_checkpoint(other)
    assert first["step"] == second["step"]
    parts = [(first[part], second[part]) for part in ("model", "identity", "teacher")]
    for a, b in [*parts, (moments(first), moments(second))]:
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert len(moments(first)) > 10
    assert float(sum(first["identity"][table].abs().sum() for table in ("lut", "queue"))) > 0


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the processes beside: rounding depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_every_preset_goes_on_in_a_new_process_as_if_it_had_not_been_killed(tmp_path: Path) -> None:
    first = run("tests/train/train_presets.py", tmp_path)
    assert first.returncode == -signal.SIGKILL, first.stdout + first.stderr
    train_presets.main("second", tmp_path)
    for name in PRESETS:
        assert_same_run(tmp_path / name / "whole.pth", tmp_path / name / "resumed.pth")


@pytest.mark.usefixtures("one_thread")
def test_a_killed_and_an_interrupted_run_end_like_one_that_was_left_alone(tmp_path: Path) -> None:
    content = tiny_config(tmp_path / "parts")
    content["optimiser"] |= {"detector_rate": 0.1, "steps_per_epoch": 6}
    content["checkpoint_minutes"] = 1e-6  # after every step
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(content))
    whole = call("train/run.py", "--config", config, f"out={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    assert "mAP" in whole.stdout
    summary = (tmp_path / "whole" / "summary.md").read_text()
    assert all(words in summary for words in ("training images", "| mAP |", "curves.png", "steps_per_epoch: 6"))
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 5000
    last = tmp_path / "parts" / "last.pth"
    step = 0
    for number, more in ((signal.SIGKILL, []), (signal.SIGTERM, ["--resume", "data.workers=1"])):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "train/run.py", "--config", str(config), *more], cwd=REPOSITORY, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )  # fmt: skip
        while not (last.exists() and last.stat().st_mtime_ns > before) and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, number)  # the loading processes as well, as service managers and terminals do
        output, _ = process.communicate(timeout=240)
        assert process.returncode == (-number if number == signal.SIGKILL else 130), output
        reached = load_checkpoint(last)["step"]
        assert step < reached < 12, output
        step = reached
    resumed = call("train/run.py", "--config", config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(tmp_path / "whole" / "last.pth", last)
    assert [p.name for p in last.parent.glob("*.partial")] == []  # what the killed process was writing is gone
    assert_user_error(call("train/run.py", "--config", config), "--resume")


def test_a_folder_into_which_another_training_writes_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_config(tmp_path / "run")))
    with only_one(tmp_path / "run" / ".lock", "", ""):
        for more in ((), ("--resume",), ("--profile",)):
            assert_user_error(call("train/run.py", "--config", config, *more), "another training writes into it")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
        assert call("train/run.py", "--config", config, "--dry-run").returncode == 0  # it writes nothing


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[TrainSettings, dict]:
    """A run of two groups after one step, and its checkpoint's content."""
    config = tiny_config(tmp_path)
    config["optimiser"]["detector_rate"] = 0.1
    trainer = Trainer(TrainSettings.model_validate(config))
    trainer.network.train()
    trainer.train_step(next(trainer.batches()))
    trainer.save("last.pth")
    return trainer.settings, load_checkpoint(tmp_path / "last.pth")


def refusal(settings: TrainSettings, content: dict) -> str:
    path = Path(settings.out) / "last.pth"
    save_checkpoint(path, {k: v for k, v in content.items() if k != "format"})
    with pytest.raises(CheckpointError) as caught:
        Trainer(settings, resume=True)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_optimiser_state_that_does_not_fit_is_refused(stopped) -> None:
    settings, content = stopped
    groups = content["optimiser"]["param_groups"]
    assert len(groups) == 2
    first, second, *others = groups[0]["param_names"]
    groups[0]["param_names"] = [second, first, *others]
    assert "order" in refusal(settings, content)
    groups[0]["param_names"] = ["stem.other", second, *others]
    assert "stem.other" in refusal(settings, content) or first in refusal(settings, content)
    groups[0]["param_names"] = [first, second, *others]
    moment = content["optimiser"]["state"][0]["exp_avg"]
    content["optimiser"]["state"][0]["exp_avg"] = moment.new_zeros(3, 5)
    assert f"exp_avg of {first} has shape (3, 5)" in refusal(settings, content)
    for group in groups:
        del group["param_names"]
    assert "earlier version" in refusal(settings, content)


def test_another_kind_of_optimiser_is_refused_and_another_rate_is_taken(stopped) -> None:
    settings, _ = stopped
    change = {"kind": "sgd", "rate": 0.5}
    other = settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update=change)})
    with pytest.raises(CheckpointError, match="adamw"):
        Trainer(other, resume=True)
    change = {"rate": 0.5}
    other = settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update=change)})
    assert [g["base_rate"] for g in Trainer(other, resume=True).optimiser.param_groups] == [0.5, 0.05]


def test_weights_without_training_state_are_refused(stopped) -> None:
    settings, content = stopped
    assert "init=" in refusal(settings, {key: content[key] for key in ("config", "model")})
