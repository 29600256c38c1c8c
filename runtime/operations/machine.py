"""What machine this is: processor, memory, accelerators, clock, libraries. Only reads."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from personsearch.core import __version__
from personsearch.core.processor import kernel_text, usable_cores
from personsearch.core.wall_clock import may_be_right
from personsearch.runtime.cameras.decoders import DEVICES, missing

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm")
PACKAGES = (
    "numpy", "opencv-python", "pyzmq", "pydantic", "openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt",
    "cuda-bindings", "torch",
)  # fmt: skip
UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex


@dataclass(frozen=True)
class Machine:
    processor: str
    cores: float  # that may be used: by affinity, and by the container's limit
    cores_there: int
    features: tuple[str, ...]
    memory_mb: int  # that may be used
    free_mb: int
    load: float  # of the last minute: processes that want to compute
    accelerators: tuple[str, ...]
    decoders: dict[str, str]  # kinds of devices that decode -> what is missing for them here; empty if it may work
    system: str
    python: str
    packages: dict[str, str]
    descriptors: int  # that a process may open


def look_at_machine() -> Machine:
    text = kernel_text("/proc/cpuinfo")
    model = re.search(r"^(?:model name|Model|Hardware)\s*: (.+)$", text, re.M)
    flags = set((re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.M) or ["", ""])[1].split())
    memory = {
        key: int(value) // 1024 for key, value in re.findall(r"^(\w+): +(\d+) kB", kernel_text("/proc/meminfo"), re.M)
    }
    total, free = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
    limit = kernel_text("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit() and int(limit) >> 20 < total:
        used = kernel_text("/sys/fs/cgroup/memory.current").strip()
        total = int(limit) >> 20
        free = min(free, total - (int(used) >> 20 if used.isdigit() else 0))
    devices = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev/dri").glob("renderD*"), *Path("/dev").glob("accel*")]
    return Machine(
        processor=model[1] if model else platform.machine(), cores=usable_cores(), cores_there=os.cpu_count() or 1,
        features=tuple(f for f in FEATURES if f in flags), memory_mb=total, free_mb=free, load=os.getloadavg()[0],
        accelerators=tuple(sorted(map(str, devices))), decoders={kind: missing(kind) for kind in DEVICES},
        system=f"{platform.system()} {platform.release()} {platform.machine()}"
        + (", in a container" if Path("/.dockerenv").exists() else ""),
        python=platform.python_version(), packages={"personsearch": __version__, **_versions()},
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )  # fmt: skip


def clock_trouble() -> str:
    """Empty if the clock seems right, else what is wrong. Events carry its time, and boxes are compared by it."""
    if not may_be_right(time.time()):
        return f"the clock stands at {time.strftime('%Y-%m-%d', time.gmtime())}; set it, for example with chrony"

    class Timex(ctypes.Structure):  # room for all that the kernel writes; nothing but the result is used
        _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_long * 60)]

    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(Timex()))
    except (OSError, AttributeError):
        return ""
    if state == UNSYNCHRONISED:
        return "the clock is not synchronised, so it drifts; run chrony, ntpd or systemd-timesyncd (on a host: there)"
    return ""


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
