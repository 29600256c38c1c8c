"""The same global batch on one and on two processes (gloo, CPU) is the same training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

TIMEOUT_S = 600  # half a minute on two quiet cores
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# Real weights, because training from random ones is chaotic: rounding grows tenfold a step whatever the layout.
# Some people get new clothes, and so no label: the queue fills.
SMALL = [
    "model.height=128", "model.width=224", "model.roi.sampled=2", "optimiser.epochs=1", "optimiser.amp=off",
    "data.workers=0", "data.augment.recolour_people=0.5", "data.augment.mosaic=0.2",
    "data.augment.new_background=0.2", "device=cpu",
]  # fmt: skip


STRONG = [
    "from_scratch=true", "model.backbone=convnext_tiny", "model.height=64", "model.width=96", "model.roi.sampled=8",
    "model.roi.height=4", "model.roi.width=4", "model.rpn.train_candidates=200", "model.rpn.train_proposals=20",
    "model.identity.queue=12", "data.workers=0", "data.train.0.format=street", "data.train.0.frames=8",
    "data.test.format=street", "data.test.frames=8", "optimiser.epochs=1", "optimiser.steps_per_epoch=2",
    "optimiser.warmup_epochs=0", "optimiser.amp=off", "device=cpu",
]  # fmt: skip


def run_alone_and_on_two(out: Path, alone: list[str], on_two: list[str]) -> tuple[dict, dict]:
    """What `train_and_dump.py` writes of both, which run at the same time."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    files, logs, processes = [out / "one.pt", out / "two.pt"], [out / "one.log", out / "two.log"], []
    try:
        for file, log, launch, arguments in zip(files, logs, ([], LAUNCH), (alone, on_two), strict=True):
            command = [sys.executable, *launch, "tests/train/train_and_dump.py", str(file), *arguments]
            with log.open("w") as output:
                processes.append(
                    subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
                )
        for process, log in zip(processes, logs, strict=True):
            assert process.wait(TIMEOUT_S) == 0, log.read_text()[-3000:]
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)
    one, two = (torch.load(file, weights_only=True) for file in files)
    return one, two


def small_run(out: Path, steps: int, queue: int) -> tuple[dict, dict]:
    edge = ["edge", *SMALL, f"optimiser.steps_per_epoch={steps}", f"model.identity.queue={queue}"]
    return run_alone_and_on_two(out, [*edge, "optimiser.batch=2"], [*edge, "optimiser.batch=1"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    return small_run(tmp_path_factory.mktemp("small"), 4, 2)


def assert_same_training(one: dict, two: dict, steps: int) -> None:
    assert one["losses"].shape == (steps, 3)  # all, RPN, identity
    assert float((one["losses"] - two["losses"]).abs().max()) < 1e-5
    assert one["state"]["identity.queue"].norm(dim=1).min() > 0.9  # the queue was filled, and ran over
    assert int((one["state"]["identity.lut"].norm(dim=1) > 0).sum()) > steps // 2
    assert_equal_states(one["state"], two["state"], 1e-5)


def test_one_and_two_processes_train_the_same(small: tuple[dict, dict]) -> None:
    assert_same_training(*small, 4)


@pytest.mark.slow
def test_one_and_two_processes_train_the_same_for_longer(tmp_path: Path) -> None:
    assert_same_training(*small_run(tmp_path, 20, 12), 20)


def assert_equal_states(one: dict, two: dict, most: float) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        difference = (value.double() - two[name].double()).abs() / value.double().abs().clamp(min=1)
        assert float(difference.max()) < most, name


@pytest.mark.slow
def test_the_strong_preset_is_exact_over_ranks(tmp_path: Path) -> None:
    """ConvNeXt, two stages, AdamW, moving average; two steps only, because it starts from random weights."""
    strong = ["strong", *STRONG]
    one, two = run_alone_and_on_two(tmp_path, [*strong, "optimiser.batch=2"], [*strong, "optimiser.batch=1"])
    apart = (one["losses"] - two["losses"]).abs().amax(1)
    assert float(apart[0]) < 1e-12
    assert float(apart[1]) < 1e-6  # AdamW divides by the gradient's size: rounding of tiny ones moves weights by 1e-9
    assert any(name.startswith("averaged.") for name in one["state"])
    assert any(name.startswith("model.first.") for name in one["state"])
    assert_equal_states(one["state"], two["state"], 1e-7)


def test_ranks_without_samples_and_uneven_ranks_give_the_global_statistics(small: tuple[dict, dict]) -> None:
    one, two = (result["norms"] for result in small)
    assert one.keys() == two.keys()
    assert len(one) > 30
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-12), name
