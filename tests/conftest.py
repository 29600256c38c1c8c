"""Shared parts: a tiny network, its bundle, and the real data where it is at hand."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import personsearch.train  # noqa: F401  (before PyTorch: how its threads wait)

# isort: split
import pytest

# PyTorch's threads wait for each other by spinning. The networks here are tiny, so on a busy machine that is most of
# what they do: an export took 66 s of processor time instead of 19. Read when the library loads, here and by `run`.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import in_process
import torch

from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import TrainSettings
from personsearch.train.weights.checkpoint import save_checkpoint

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
call = in_process.call
TINY_STREET = {"format": "street", "frames": 8, "identities": 12, "cameras": 2, "people": 3}


def tiny_config(out: Path, **model: object) -> dict:
    """A configuration that trains in seconds: a small canvas and a narrow head."""
    return {
        "out": str(out),
        "model": {
            "height": 96,
            "width": 160,
            "rpn": {"kind": "dense", "train_proposals": 30, "test_candidates": 60, "test_proposals": 8},
            "roi": {"height": 8, "width": 4, "widths": [16, 32], "depths": [1, 1], "sampled": 16, "min_score": 0.05},
            "identity": {"dimensions": 32, "queue": 20},
            **model,
        },
        "data": {"workers": 0, "train": [TINY_STREET], "test": TINY_STREET},
        "optimiser": {"kind": "adamw", "rate": 0.001, "batch": 2, "epochs": 2, "steps_per_epoch": 3},
        "evaluate_every": 0,
    }


def run(*arguments: object, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run one of the project's scripts as a user would; gives exit status and output."""
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:  # with whatever it started, which else would keep the pipes open for ever
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def assert_user_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear message, exit status 2, no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "error:" in result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} not in {result.stderr!r}"


@pytest.fixture(scope="session", autouse=True)
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all tests use; `.ci/tests` has one for its processes. What engines compile lies there as well:
    once for each network, in no folder of the user's."""
    folder = Path(os.environ.get("PERSONSEARCH_TESTS", "") or tmp_path_factory.mktemp("common"))
    os.environ["PERSONSEARCH_CACHE"] = str(folder / "cache")
    return folder


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """A file or folder that the first process makes, while others wait for it."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path


@pytest.fixture(scope="session")
def tiny_checkpoint(common: Path) -> Path:
    """A network with random weights and lively statistics, so that folding has something to fold."""

    def make(path: Path) -> None:
        torch.manual_seed(3)
        settings = TrainSettings.model_validate(tiny_config(common))
        network = PersonSearch(settings.model)
        liven(network)
        save_checkpoint(path, {"config": settings.model_dump(mode="json"), "model": network.state_dict()})

    return made_once(common / "tiny.pth", make)


def liven(network: torch.nn.Module) -> None:
    """Random running statistics and affine parameters, and scores that differ from cell to cell."""
    for name, tensor in [*network.named_buffers(), *network.named_parameters()]:
        with torch.no_grad():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif ".person" in name or ".objectness" in name or name.startswith(("person", "box", "projection")):
                tensor.normal_(0, 0.3)


@pytest.fixture(scope="session")
def tiny_bundle(common: Path, tiny_checkpoint: Path) -> Path:
    def make(path: Path) -> None:
        options = ("--engine", "no", "--weights", "fp32", "--data-frames", 12)
        result = run("export/to_trt.py", tiny_checkpoint, "--out", path, *options)
        assert result.returncode == 3, result.stdout + result.stderr

    return made_once(common / "bundle", make)


@pytest.fixture(scope="session")
def shipped_bundle() -> Path:
    return REPOSITORY / "models" / "edge"


@pytest.fixture(scope="session")
def searcher(shipped_bundle: Path) -> Any:
    """The shipped bundle in this process, loaded once: a `BundleSearcher`."""
    from personsearch.core.engines.searcher import BundleSearcher

    return BundleSearcher(shipped_bundle)


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip("real frames and videos (../shared) are not on this machine")
    return SHARED


@pytest.fixture(scope="module")  # a box that goes on would slow down all other tests
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A box with the page (`page_box.Box`), started once for all tests that need one, with its engine ready."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "faults"))
    from page_box import box_with_page

    with box_with_page(tmp_path_factory.mktemp("page"), match={"candidates": True}) as box:
        box.running.ready(300)
        yield box


LEFT_OPEN: list[object] = []  # by tests that failed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A context of ZeroMQ that is collected while its sockets are open waits for them for ever: what a failed test has
    left behind is kept, or a later test would hang."""
    report = yield
    if report.failed:
        import zmq

        contexts = [thing for thing in gc.get_objects() if type(thing) is zmq.Context]
        LEFT_OPEN.extend(context for context in contexts if not context.closed)
    return report


@pytest.fixture(scope="session")
def database_server() -> Iterator[str]:
    """A Postgres with pgvector for the centre's tests, as a DSN; skips where there is none."""
    from centre_parts import postgres

    with postgres() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def schema(database_server: str) -> str:
    """The name of a database with the centre's schema and nothing in it."""
    from centre_parts import new_database

    from personsearch.centre.database.migrate import migrate

    found = new_database(database_server)
    migrate(found)
    return found.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def dsn(database_server: str, schema: str) -> str:
    """A database of its own for each test, with the centre's schema: copying is faster than making it anew."""
    from centre_parts import new_database

    return new_database(database_server, like=schema)
