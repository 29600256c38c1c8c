"""Shared parts: a tiny network, its bundle, and the real data where it is at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from personsearch.train.checkpoint import save_checkpoint
from personsearch.train.network import PersonSearch
from personsearch.train.settings import TrainSettings

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
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


def run(*arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run one of the project's scripts as a user would; gives exit status and output."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )


def assert_user_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear message, exit status 2, no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "error:" in result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} not in {result.stderr!r}"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights and lively statistics, so that folding has something to fold."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(3)
    settings = TrainSettings.model_validate(tiny_config(folder))
    network = PersonSearch(settings.model)
    liven(network)
    save_checkpoint(folder / "tiny.pth", {"config": settings.model_dump(mode="json"), "model": network.state_dict()})
    return folder / "tiny.pth"


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
def tiny_bundle(tiny_checkpoint: Path) -> Path:
    out = tiny_checkpoint.parent / "bundle"
    options = ("--engine", "no", "--weights", "fp32", "--data-frames", 12)
    result = run("export/to_trt.py", tiny_checkpoint, "--out", out, *options)
    assert result.returncode == 3, result.stdout + result.stderr
    return out


@pytest.fixture(scope="session")
def shipped_bundle() -> Path:
    return REPOSITORY / "models" / "edge"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip("real frames and videos (../shared) are not on this machine")
    return SHARED
