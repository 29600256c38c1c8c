"""What of a processor may be used: oneDNN, which computes for OpenVINO and PyTorch, can be told to do with less."""

from __future__ import annotations

import os
import re
from pathlib import Path

SYSTEM = Path("/sys")
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def bf16_is_hidden() -> bool:
    """Does ONEDNN_MAX_CPU_ISA leave instructions for bf16 out? OpenVINO and PyTorch announce them all the same."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16


def usable_cores() -> float:
    """Logical ones that this process may run on, or what its container is allowed of them."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = re.match(r"(\d+) (\d+)", kernel_text(SYSTEM / "fs/cgroup/cpu.max"))
    return min(cores, int(quota[1]) / int(quota[2])) if quota else cores


def compute_threads() -> int:
    """As many as pay for a computation: one a physical core, within a container's quota."""
    cpus = os.sched_getaffinity(0)
    physical = {
        kernel_text(SYSTEM / f"devices/system/cpu/cpu{n}/topology/thread_siblings_list").strip() or n for n in cpus
    }
    return max(1, min(len(physical), int(usable_cores())))


def has_quota() -> bool:
    """Is this a container that gets less than the cores it sees? Libraries start threads for all of them."""
    return usable_cores() < len(os.sched_getaffinity(0))


def kernel_text(path: str | Path) -> str:
    """A file of /proc or /sys; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
