"""Where a run's figures go: TensorBoard, and with `tracking: mlflow` or `wandb` MLflow or Weights & Biases as well."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from personsearch.core.errors import ConfigError, UserError
from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.train import distributed
from personsearch.train.settings import TrainSettings

RUN_FILE = "mlflow.json"  # in the run's folder: which MLflow run a resumed one goes on with
WANDB_FILE = "wandb.json"  # the same for Weights & Biases
EXPERIMENT = "personsearch"  # unless MLFLOW_EXPERIMENT_NAME or WANDB_PROJECT says otherwise
AT_ONCE = 500  # figures per request to MLflow
# A server that does not answer must not hold the training up for MLflow's own ten minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class Sink(Protocol):
    def log(self, step: int, figures: dict[str, float]) -> None: ...

    def close(self, status: str) -> None: ...


class Tracking:
    """The sinks of a run; none on processes other than rank 0. May be opened again after `close`.

    Raises ConfigError if MLflow or Weights & Biases is asked for and not installed.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings, self.sinks = settings, list[Sink]()
        self._leader = distributed.rank() == 0
        if self._leader and settings.tracking == "mlflow":
            _mlflow()
        if self._leader and settings.tracking == "wandb":
            _wandb()

    def open(self) -> None:
        """Raises UserError if MLflow or Weights & Biases does not take the run."""
        if not self._leader or self.sinks:
            return
        out = Path(self.settings.out)
        kinds: dict[str, type[MLflow] | type[WandB]] = {"mlflow": MLflow, "wandb": WandB}
        more = [kinds[self.settings.tracking](out, self.settings)] if self.settings.tracking in kinds else []
        self.sinks = [TensorBoard(out), *more]

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Figures by name (`loss/box`, `test/mAP`) after `step` steps."""
        for sink in self.sinks:
            sink.log(step, figures)

    def close(self, status: str) -> None:
        """status: FINISHED, KILLED (the user stopped it; it may be resumed) or FAILED."""
        for sink in self.sinks:
            sink.close(status)
        self.sinks = []


class TensorBoard:
    def __init__(self, out: Path) -> None:
        self.writer = SummaryWriter(str(out))

    def log(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:
        self.writer.close()


class MLflow:
    """A run in MLflow: the configuration as parameters, losses and validation as metrics.

    MLflow's own variables say where (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME). Once the run has begun, a store
    that fails costs figures at most, never the training: they are kept and sent again at the end.
    """

    def __init__(self, out: Path, settings: TrainSettings) -> None:
        client, self._metric, param = _mlflow()
        self._waiting: list[Any] = []
        self._failed = False
        try:
            self._client = client()
            self.run = self._continued(out / RUN_FILE) or self._new(out, settings, param)
        except Exception as error:  # MLflow's, requests', SQLAlchemy's
            raise UserError(
                f"tracking: mlflow: {_first_line(error)}; set MLFLOW_TRACKING_URI to a server or store that is there, "
                "or tracking=none"
            ) from None

    def _continued(self, file: Path) -> str:
        """The run that this folder's training began with, "" if there is none or the store does not know it."""
        try:
            run = str(parse_json(file.read_bytes())["run"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""
        from mlflow.exceptions import MlflowException

        try:
            self._client.update_run(run, status="RUNNING")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return ""
        return run

    def _new(self, out: Path, settings: TrainSettings, param: Any) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=out.name).info.run_id
        config = flat(settings.model_dump(mode="json"))
        params = [param(key, str(value)[:500]) for key, value in config.items()]
        for begin in range(0, len(params), 100):  # as many as one request may hold
            self._client.log_batch(run, params=params[begin : begin + 100])
        replace_file(out / RUN_FILE, f"{json.dumps({'run': run})}\n".encode())
        return run

    def log(self, step: int, figures: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        self._waiting += [self._metric(name, value, now, step) for name, value in figures.items()]
        if len(self._waiting) >= AT_ONCE and not self._failed:
            self._send()

    def close(self, status: str) -> None:
        self._send()
        if not self._waiting:
            self._tried(lambda: self._client.set_terminated(self.run, status))

    def _send(self) -> None:
        while self._waiting and self._tried(lambda: self._client.log_batch(self.run, metrics=self._waiting[:AT_ONCE])):
            del self._waiting[:AT_ONCE]

    def _tried(self, call: Any) -> bool:
        try:
            call()
        except Exception as error:  # MLflow's, requests', SQLAlchemy's
            if not self._failed:
                tqdm.write(
                    f"tracking: MLflow does not take the figures ({_first_line(error)}); training goes on, and they "
                    "are sent again at its end", file=sys.stderr,
                )  # fmt: skip
            self._failed = True
            return False
        return True


class WandB:
    """A run in Weights & Biases. Its own variables say where (WANDB_PROJECT, WANDB_MODE=offline, WANDB_BASE_URL).

    A process of wandb's own keeps the figures on disk and sends them, so that a server that fails costs no training.
    """

    def __init__(self, out: Path, settings: TrainSettings) -> None:
        wandb = _wandb()
        try:
            before = str(parse_json((out / WANDB_FILE).read_bytes())["run"])
        except (OSError, ValueError, LookupError, TypeError):
            before = None
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", EXPERIMENT), name=out.name, dir=str(out), id=before,
                resume="allow", config=flat(settings.model_dump(mode="json")),
            )  # fmt: skip
        except wandb.errors.Error as error:
            raise UserError(
                f"tracking: wandb: {_first_line(error)}; log in with `wandb login`, set WANDB_MODE=offline, or "
                "tracking=none"
            ) from None
        replace_file(out / WANDB_FILE, f"{json.dumps({'run': self._run.id})}\n".encode())
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, figures: dict[str, float]) -> None:
        # Its own step may not go back, and a resumed run starts at its last checkpoint: ours is a figure like others.
        self._run.log({**figures, "step": step})

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Sections and lists as dotted keys, as on the command line: `optimiser.rate`, `data.train.0.root`."""
    parts = config.items() if isinstance(config, dict) else enumerate(config)
    found: dict[str, Any] = {}
    for key, value in parts:
        sections = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value))
        found |= flat(value, f"{prefix}{key}.") if sections else {f"{prefix}{key}": value}
    return found


def _mlflow() -> tuple[Any, Any, Any]:
    """MLflow's kinds of client, metric and parameter."""
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tracking: mlflow needs the package {error.name}; install personsearch[mlflow], or set tracking=none"
        ) from None
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    return MlflowClient, Metric, Param


def _wandb() -> Any:
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tracking: wandb needs the package {error.name}; install personsearch[wandb], or set tracking=none"
        ) from None
    return wandb


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
