"""The same global batch on one and on two processes (gloo, CPU) is the same training."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from conftest import REPOSITORY

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# Real weights, because training from random ones is chaotic: rounding grows tenfold a step whatever the layout.
# Some people get new clothes, and so no label: the queue fills.
SMALL = [
    "model.height=128", "model.width=224", "model.roi.sampled=4", "model.identity.queue=30", "optimiser.epochs=1",
    "optimiser.steps_per_epoch=20", "optimiser.amp=off", "data.workers=0", "data.augment.recolour_people=0.4",
    "data.augment.mosaic=0.2", "data.augment.new_background=0.2", "device=cpu",
]  # fmt: skip


def run_alone_and_on_two(script: str, out: Path, alone: list[str], on_two: list[str]) -> tuple[dict, dict]:
    results = []
    for name, launch, arguments in (("one", [], alone), ("two", LAUNCH, on_two)):
        file = out / f"{name}.pt"
        command = [sys.executable, *launch, f"tests/{script}", str(file), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        result = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, env=environment, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]
        results.append(torch.load(file, weights_only=True))
    return results[0], results[1]


def test_one_and_two_processes_train_the_same_for_twenty_steps(tmp_path: Path) -> None:
    one, two = run_alone_and_on_two(
        "train_and_dump.py", tmp_path, [*SMALL, "optimiser.batch=2"], [*SMALL, "optimiser.batch=1"]
    )
    assert one["losses"].shape == (20, 5)
    assert float((one["losses"] - two["losses"]).abs().max()) < 1e-5
    assert one["state"]["identity.queue"].norm(dim=1).min() > 0.9  # the queue was filled, and ran over
    assert int((one["state"]["identity.lut"].norm(dim=1) > 0).sum()) > 10
    for name, value in one["state"].items():
        difference = (value.double() - two["state"][name].double()).abs() / value.double().abs().clamp(min=1)
        assert float(difference.max()) < 1e-5, name


def test_ranks_without_samples_and_uneven_ranks_give_the_global_statistics(tmp_path: Path) -> None:
    one, two = run_alone_and_on_two("norms_and_dump.py", tmp_path, [], [])
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-12), name
