"""How many threads compute, and where: a box does other things, and several of our processes share a machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from personsearch.core import processor
from personsearch.runtime.settings import default_bundle

WHERE = """
import os, sys
from pathlib import Path
import numpy as np
from personsearch.core.engines.searcher import BundleSearcher

searcher = BundleSearcher(sys.argv[1], sys.argv[2])
searcher.find([np.zeros((72, 128, 3), np.uint8)])
allowed = [Path(task, "status").read_text().partition("Cpus_allowed_list:")[2].split()[0] for task in
           Path("/proc/self/task").iterdir()]
print(*sorted(set(allowed)))
"""


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_pin_no_thread_to_a_core_since_other_processes_would_take_the_same(engine: str) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one core")
    told = subprocess.run(
        [sys.executable, "-c", WHERE, default_bundle(), engine], capture_output=True, text=True, check=True, timeout=300
    )
    assert told.stdout.split() == Path("/proc/self/status").read_text().partition("Cpus_allowed_list:")[2].split()[:1]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four logical cores, of which two are a physical one; its files of the kernel are returned."""
    for cpu, siblings in enumerate(("0-1", "0-1", "2-3", "2-3")):
        folder = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    monkeypatch.setattr(processor, "SYSTEM", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores", "threads", "limited"),
    [
        (None, 4, 2, False),
        ("max 100000", 4, 2, False),
        ("150000 100000", 1.5, 1, True),
        ("50000 100000", 0.5, 1, True),
        ("900000 100000", 4, 2, False),
        ("nonsense", 4, 2, False),
    ],
)
def test_a_thread_for_each_physical_core_within_a_containers_quota(
    machine: Path, quota: str | None, cores: float, threads: int, limited: bool
) -> None:
    if quota is not None:
        (machine / "fs/cgroup/cpu.max").write_text(quota + "\n")
    assert (processor.usable_cores(), processor.compute_threads()) == (cores, threads)
    assert processor.has_quota() == limited


def test_cores_that_the_kernel_does_not_describe_count_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "SYSTEM", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7})
    assert processor.compute_threads() == 3
