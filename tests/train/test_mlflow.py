"""Figures of a run in MLflow: a real store in files, continued by a resumed run, and failures that cost no training."""

import sys
from pathlib import Path

import pytest
from conftest import tiny_config

from personsearch.core.errors import ConfigError, UserError
from personsearch.train.loop.tracking import RUN_FILE, Tracking, flat
from personsearch.train.settings import TrainSettings


def settings_of(out: Path) -> TrainSettings:
    return TrainSettings.model_validate({**tiny_config(out), "tracking": "mlflow"})


def test_a_missing_mlflow_is_named_before_anything_is_loaded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"install personsearch\[mlflow\], or set tracking=none"):
        Tracking(settings_of(tmp_path))
    assert Tracking(TrainSettings.model_validate(tiny_config(tmp_path))).sinks == []


def test_sections_and_lists_become_the_command_lines_keys() -> None:
    config = {"out": "x", "data": {"train": [{"format": "street"}, {"format": "prw"}]}, "sizes": [8, 16]}
    expected = {"out": "x", "data.train.0.format": "street", "data.train.1.format": "prw", "sizes": [8, 16]}
    assert flat(config) == expected
    assert flat({}) == {}


def test_a_run_its_resumption_and_a_store_that_fails(tmp_path: Path, monkeypatch, capsys) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = tmp_path / "store"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    out = tmp_path / "run"
    tracking = Tracking(settings_of(out))
    tracking.open()
    tracking.log(1, {"loss/box": 2.0})
    tracking.close("KILLED")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("personsearch").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "KILLED")
    assert run.data.params["optimiser.rate"] == "0.001"
    assert run.data.params["data.train.0.format"] == "street"

    tracking.open()  # as a resumed run does
    tracking.log(2, {"loss/box": 1.0})
    log_batch = mlflow.MlflowClient.log_batch

    def refused(*_: object, **__: object) -> None:
        raise mlflow.MlflowException("the store is full")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refused)
    for step in range(3, 703):  # more than one request holds
        tracking.log(step, {"loss/box": 0.5})
    warned = capsys.readouterr().err
    assert "the store is full" in warned
    assert warned.count("tracking:") == 1
    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", log_batch)
    tracking.log(703, {"test/top-1": 0.75, "test/detection AP": 0.5})
    tracking.close("FINISHED")
    (run,) = client.search_runs([run.info.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"loss/box": 0.5, "test/top-1": 0.75, "test/detection AP": 0.5}
    history = client.get_metric_history(run.info.run_id, "loss/box")
    assert [point.step for point in history] == list(range(1, 703))
    assert len(list(out.glob("events.out.tfevents.*"))) == 2  # TensorBoard has it as well

    (out / RUN_FILE).write_text('{"run": "0123456789abcdef0123456789abcdef"}')  # of a store that is gone
    tracking.open()
    tracking.close("FINISHED")
    assert len(client.search_runs([run.info.experiment_id])) == 2

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI to a server or store that is there"):
        Tracking(settings_of(tmp_path / "other")).open()
