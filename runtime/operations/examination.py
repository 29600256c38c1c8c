"""The doctor's examination: machine, engines, cameras, capacity, clock, disk, permissions, ports. Each part stands for
itself: what goes wrong in one is a finding, and the others are still looked at."""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from personsearch.core.bundle import graph_file, read_manifest
from personsearch.core.engines.choice import BACKENDS, preference
from personsearch.core.errors import ConfigError, UserError
from personsearch.core.redaction import redact
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.detail_views import shape_refusal
from personsearch.runtime.cameras.urls import advice, kind_of, with_secrets
from personsearch.runtime.operations.capacity import USABLE, Capacity, Demand, capacity, demand
from personsearch.runtime.operations.house import look_at_files, look_at_ports
from personsearch.runtime.operations.machine import Machine, clock_trouble, look_at_machine
from personsearch.runtime.operations.trials import CameraTrial, EngineTrial, try_camera, try_engine
from personsearch.runtime.settings import DescribeSettings, StreamSettings

AT_ONCE = 4  # cameras that are tried at the same time
DESCRIPTORS_EACH = 4  # a camera's: channel, memory, and those of a restart
MEMORY_EACH_MB = 120  # a capture process with 1080p frames
State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """A sentence about a part. A problem keeps something from working, or will; a note may be as it shall be."""

    part: str
    state: State
    text: str


@dataclass
class Examination:
    """All that was found; what stays empty could not be looked at."""

    machine: Machine | None = None
    engines: list[EngineTrial] = field(default_factory=list)
    chosen: str = ""  # the choice that the stream would take
    cameras: list[CameraTrial] = field(default_factory=list)
    capacity: Capacity | None = None
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # tracebacks of what nobody expected

    def add(self, part: str, state: State, text: str) -> None:
        self.findings.append(Finding(part, state, text))

    @property
    def problems(self) -> list[Finding]:
        return [f for f in self.findings if f.state == "problem"]


def examine(settings: StreamSettings | None, bundle: Path, seconds: float, trouble: str = "") -> Examination:
    """settings  of cams.yaml; None without one
    seconds   that each engine and camera is measured
    trouble   why cams.yaml could not be read"""
    found = Examination()
    if trouble:
        found.add("settings", "problem", trouble)
    parts: list[tuple[str, Callable[[], None]]] = [
        ("machine", lambda: _machine(found, settings)),
        ("engines", lambda: _engines(found, settings, bundle, seconds)),
        ("cameras", lambda: _cameras(found, settings.cameras if settings else (), seconds)),
        ("capacity", lambda: _capacity(found, settings)),
        ("clock", lambda: _clock(found)),
    ]
    if settings is not None:
        parts += [
            ("files", lambda: found.findings.extend(Finding(*f) for f in look_at_files(settings, bundle))),
            ("ports", lambda: found.findings.extend(Finding(*f) for f in look_at_ports(settings))),
        ]
    _look(found, parts)
    return found


def examine_beside(settings: StreamSettings, bundle: Path) -> list[Finding]:
    """Beside a running stream: what can be looked at without disturbing it."""
    found = Examination()
    parts: list[tuple[str, Callable[[], None]]] = [
        ("machine", lambda: _machine(found, None)),
        ("clock", lambda: _clock(found)),
        ("files", lambda: found.findings.extend(Finding(*f) for f in look_at_files(settings, bundle))),
    ]
    _look(found, parts)
    return found.findings


def _look(found: Examination, parts: Sequence[tuple[str, Callable[[], None]]]) -> None:
    for part, look in parts:
        try:
            look()
        except UserError as error:
            found.add(part, "problem", str(error))
        except Exception as error:  # the doctor is asked when things are odd: note it, and look at the rest
            found.add(part, "problem", f"not known to the doctor: {type(error).__name__}: {error}")
            found.unknown.append(redact(traceback.format_exc()))


def _machine(found: Examination, settings: StreamSettings | None) -> None:
    machine = found.machine = look_at_machine()
    cameras = len(settings.cameras) if settings else 0
    if machine.cores < machine.cores_there:
        found.add("machine", "note", f"{machine.cores:g} of {machine.cores_there} cores may be used here")
    if machine.load > 0.5 * machine.cores:
        found.add(
            "machine", "note",
            f"other programs compute now (load {machine.load:.1f} on {machine.cores:g} cores): the figures are too low",
        )  # fmt: skip
    if machine.free_mb < 400 + MEMORY_EACH_MB * cameras:
        found.add(
            "machine", "problem",
            f"{machine.free_mb} MB of memory are free, about {400 + MEMORY_EACH_MB * cameras} are needed; end other "
            "programs, or set max_size for large cameras",
        )  # fmt: skip
    if machine.descriptors < 64 + DESCRIPTORS_EACH * cameras:
        found.add("machine", "problem", f"{machine.descriptors} open files are allowed; raise it (ulimit -n 1024)")


def _engines(found: Examination, settings: StreamSettings | None, bundle: Path, seconds: float) -> None:
    read_manifest(bundle)  # raises BundleError if a file is missing or its hash does not hold
    threads = settings.threads if settings else 0
    for choice in _choices(bundle):
        backend, _, precision = choice.rpartition("-")
        if not any(e.name == f"{backend}-cpu-{precision}" for e in found.engines):  # its bare name took this precision
            found.engines.append(try_engine(bundle, choice, threads, seconds))
    wanted = settings.engine if settings else "auto"
    working = {e.choice for e in found.engines if not e.problem}
    if wanted == "auto":
        order = [backend if p == BACKENDS[backend][0] else f"{backend}-{p}" for backend, p in preference(bundle)]
        found.chosen = next((choice for choice in order if choice in working), "")
        if not found.chosen and any(e.late for e in found.engines):
            found.add("engines", "problem", "none answered in time; end other programs on this machine, and try again")
        elif not found.chosen:
            found.add("engines", "problem", "none works; install personsearch[cpu] or personsearch[gpu]")
        return
    if wanted not in {e.choice for e in found.engines}:
        found.engines.append(try_engine(bundle, wanted, threads, seconds))
    trial = next(e for e in found.engines if e.choice == wanted)
    if trial.problem:
        found.add("engines", "problem", f"engine: {wanted} does not work here ({trial.problem}); try engine: auto")
    else:
        found.chosen = wanted


def _choices(bundle: Path) -> list[str]:
    """All that the bundle has a graph for; the bare name of a backend is its first precision."""
    return [
        backend if precision == kinds[0] else f"{backend}-{precision}"
        for backend, kinds in BACKENDS.items()
        for precision in kinds
        if precision == "auto" or (bundle / graph_file(precision)).is_file()
    ]


def _cameras(found: Examination, cameras: Sequence[CameraSettings], seconds: float) -> None:
    def look(camera: CameraSettings, given: str) -> tuple[CameraTrial | None, str]:
        try:
            url = with_secrets(given, camera.name)
        except ConfigError as error:
            return CameraTrial(camera.name, problem=str(error)), ""
        doubt, fatal = advice(url) if kind_of(url) in ("network", "unknown") else ("", False)
        if fatal:
            return CameraTrial(camera.name, problem=doubt), ""
        if kind_of(url) == "file" and os.path.exists(url) and stat.S_ISFIFO(os.stat(url).st_mode):
            return None, ""  # what is read from it would be missing in the stream
        options = camera.model_dump(mode="json") | {"url": url, "detail_url": "", "lossless": camera.lossless}
        return try_camera(options, seconds), doubt

    with ThreadPoolExecutor(AT_ONCE) as pool:
        mains = {c.name: pool.submit(look, c, c.detail_url) for c in cameras if c.detail_url}
        for camera, (trial, doubt) in zip(cameras, pool.map(look, cameras, [c.url for c in cameras]), strict=True):
            if camera.name in mains:
                _main_stream(found, camera.name, trial, *mains[camera.name].result())
            if trial is None:
                found.add("cameras", "note", f"{camera.name}: a FIFO, which is not read; its cost is not known")
                continue
            found.cameras.append(trial)
            if trial.problem:
                hint = f"; {doubt}" if doubt and doubt not in trial.problem else ""
                found.add("cameras", "problem", f"{trial.name}: {trial.problem}{hint}")


def _main_stream(found: Examination, name: str, sub: CameraTrial | None, main: CameraTrial | None, doubt: str) -> None:
    """Of a camera with a `detail_url`. It is hardly decoded, so it takes none of the capacity."""
    if main is None or main.problem:
        words = main.problem if main else "a FIFO cannot be a detail_url; a video file can"
        hint = f"; {doubt}" if doubt and doubt not in words else ""
        found.add("cameras", "problem", f"{name}: detail_url: {words}{hint}; people are described from url meanwhile")
    elif sub is not None and not sub.problem:
        refusal = shape_refusal(main.picture, sub.picture)
        text = refusal or f"detail_url gives {main.picture[0]}x{main.picture[1]}, and people are described from it"
        found.add("cameras", "problem" if refusal else "ok", f"{name}: {text}")


def _capacity(found: Examination, settings: StreamSettings | None) -> None:
    trial = next((e for e in found.engines if e.choice == found.chosen), None)
    if trial is None or found.machine is None:
        return
    describe = settings.describe if settings else DescribeSettings()
    limits = {c.name: c.max_fps for c in settings.cameras} if settings else {}
    demands: list[Demand] = [demand(c, limits.get(c.name, 0.0)) for c in found.cameras if not c.problem]
    result = found.capacity = capacity(trial, describe.per_second, found.machine.cores, demands)
    if not demands:
        return
    if result.sustained <= 0:
        described = f"{describe.per_second:g} people a second {describe.per_second * trial.describe_s:.0%}"
        found.add(
            "capacity", "problem",
            f"decoding takes {result.decoding:.1f} of {found.machine.cores:g} cores and describing {described} of the "
            "engine's time, so that none is left to find people; use sub-streams, fewer frames a second, a lower "
            "describe.per_second, or a faster machine",
        )  # fmt: skip
    elif result.overload > 1:
        found.add(
            "capacity", "problem",
            f"overloaded by {result.overload:.1f}x: {result.wanted:.0f} frames/s are wanted, {result.sustained:.0f} go "
            f"with {1 - USABLE:.0%} to spare; {relief(result.sustained / len(demands))}",
        )  # fmt: skip


def relief(each: float) -> str:
    """What to do about too many frames; `each` is a camera's fair share of what can be analysed, frames a second."""
    rate = f"set max_fps: {each:.1f} for each camera" if each >= 1 else "use fewer cameras"
    return f"{rate}, or use sub-streams, fewer cameras, or a faster machine"


def _clock(found: Examination) -> None:
    if trouble := clock_trouble():
        found.add("clock", "problem" if "stands at" in trouble else "note", trouble)
