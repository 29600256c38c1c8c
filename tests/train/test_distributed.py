"""The same global batch on one and on two processes (gloo, CPU) is the same training."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, run
from train_and_dump import train_and_dump

from personsearch.train import distributed
from personsearch.train.blend import resize_people
from personsearch.train.weights.checkpoint import load_checkpoint, save_checkpoint

# Real weights, because training from random ones is chaotic: rounding grows tenfold a step whatever the layout.
# Some people get new clothes, and so no label: the queue fills. People of a seventh of the pixels show as much.
SMALL = [
    "model.height=128", "model.width=224", "model.roi.height=96", "model.roi.width=32", "model.roi.sampled=2",
    "optimiser.epochs=1", "optimiser.amp=off", "data.workers=0", "data.train.0.frames=80", "data.test.frames=8",
    "data.augment.recolour_people=0.5", "data.augment.mosaic=0.2", "data.augment.new_background=0.2", "device=cpu",
]  # fmt: skip


STRONG = [
    "from_scratch=true", "model.backbone=convnext_tiny", "model.height=64", "model.width=96", "model.roi.sampled=8",
    "model.roi.height=4", "model.roi.width=4", "model.rpn.train_candidates=200", "model.rpn.train_proposals=20",
    "model.identity.queue=12", "data.workers=0", "data.train.0.format=street", "data.train.0.frames=8",
    "data.test.format=street", "data.test.frames=8", "optimiser.epochs=1", "optimiser.steps_per_epoch=2",
    "optimiser.warmup_epochs=0", "optimiser.amp=off", "device=cpu",
]  # fmt: skip


def environment(rank: int, port: int) -> dict[str, str]:
    """What `torchrun` tells a process of two."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}  # fmt: skip


def alone_and_on_two(out: Path, preset: str, overrides: list[str]) -> tuple[dict, dict]:
    """What `train_and_dump` writes of a batch of two on one process, and of one on each of two.

    This process, which has PyTorch already, trains alone and is then rank 0; rank 1 is a new one, in which sets have
    another order.
    """
    files, log, threads = [out / "one.pt", out / "two.pt"], out / "rank1.log", torch.get_num_threads()
    on_two = [*overrides, "optimiser.batch=1"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("w") as output:
        command = [sys.executable, "tests/train/train_and_dump.py", str(files[1]), preset, *on_two]
        other = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | environment(1, port), stdout=output, stderr=output
        )
    try:
        train_and_dump(str(files[0]), preset, [*overrides, "optimiser.batch=2"])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment(0, port).items():
                patch.setenv(name, value)
            patch.setattr(distributed, "PATIENCE", timedelta(minutes=10))
            train_and_dump(str(files[1]), preset, on_two)
        assert other.wait(300) == 0
    except Exception as error:
        raise AssertionError(f"rank 1 says: {log.read_text()[-3000:]}") from error
    finally:
        torch.set_num_threads(threads)
        distributed.stop()
        other.kill()
        other.wait(30)
    return read(files)


def alone_and_with_torchrun(out: Path, preset: str, overrides: list[str]) -> tuple[dict, dict]:
    """The same, of new processes as a user starts them."""
    files = [out / "one.pt", out / "two.pt"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for file, start, batch in zip(files, ([], launch), (2, 1), strict=True):
        script = ["tests/train/train_and_dump.py", file, preset, *overrides, f"optimiser.batch={batch}"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GLOO_SOCKET_IFNAME", "lo")
            result = run(*start, *script)
        assert result.returncode == 0, result.stdout + result.stderr
    return read(files)


def read(files: list[Path]) -> tuple[dict, dict]:
    one, two = (torch.load(file, weights_only=True) for file in files)
    return one, two


def small_run(out: Path, steps: int, queue: int, trained=alone_and_on_two) -> tuple[dict, dict]:
    content = load_checkpoint(REPOSITORY / "models" / "light" / "weights.pth")
    resize_people(content, "96x32")
    save_checkpoint(out / "start.pth", content)
    of_run = [f"init={out}/start.pth", f"optimiser.steps_per_epoch={steps}", f"model.identity.queue={queue}"]
    return trained(out, "edge", [*SMALL, *of_run])


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
    assert_same_training(*small_run(tmp_path, 20, 12, alone_and_with_torchrun), 20)


def assert_equal_states(one: dict, two: dict, most: float) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        difference = (value.double() - two[name].double()).abs() / value.double().abs().clamp(min=1)
        assert float(difference.max()) < most, name


@pytest.mark.slow
def test_the_strong_preset_is_exact_over_ranks(tmp_path: Path) -> None:
    """ConvNeXt, two stages, AdamW, moving average; two steps only, because it starts from random weights."""
    one, two = alone_and_on_two(tmp_path, "strong", STRONG)
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
