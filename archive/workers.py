"""Who does the segments: this process, or actors of Ray, here or on a cluster. All do the same `work`."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from personsearch.archive.analysis import Analyst, Options
from personsearch.archive.parts import FOLDER, Part, part_path, write_part
from personsearch.archive.pictures import Segment
from personsearch.archive.videos import Damaged
from personsearch.core.errors import UserError
from personsearch.core.redaction import redact

DEATHS = 2  # of processes in one run, after which a segment is left alone
ANSWER_S = 5.0  # for a cluster's head
STORE_BYTES = 100 << 20  # of Ray's object store: what travels are names of segments
Done = dict[str, Any]


def work(analyst: Analyst, segment: Segment, out: Path, run: str) -> Done:
    """One segment, to its part on disk. Gives segment, state, seconds, rows, note, wall_s and cpu_s; `failed` is a
    segment that was not done and may be tried again, `full` one whose part the disk did not take."""
    done: Done = {"segment": segment.name, "video": segment.video.name, "seconds": segment.seconds, "rows": 0}
    trying = part_path(out, segment.name).with_suffix(".trying")
    try:
        deaths = _deaths(trying, run)
        _note_try(trying, run, deaths)
    except OSError as error:
        return {**done, "state": "full", "note": error.strerror or str(error), "wall_s": 0.0, "cpu_s": 0.0}
    try:
        if deaths >= DEATHS:
            raise Damaged("the process that read it died twice")
        part = analyst.analyse(segment)
    except Damaged as error:
        part = Part.of(segment, "damaged", analyst.searcher.dimensions, str(error))
    except OSError as error:
        trying.unlink(missing_ok=True)
        reason = redact(error.strerror or str(error))
        return {**done, "state": "failed", "note": reason, "wall_s": 0.0, "cpu_s": 0.0}
    try:
        write_part(out, part, analyst.options.crops)
        trying.unlink(missing_ok=True)
    except OSError as error:
        return {**done, "state": "full", "note": error.strerror or str(error), "wall_s": 0.0, "cpu_s": 0.0}
    about = part.about
    return {
        **done, "state": about["state"], "rows": len(part.rows), "note": about["note"],
        "wall_s": about.get("wall_s", 0.0), "cpu_s": about.get("cpu_s", 0.0),
    }  # fmt: skip


def _deaths(trying: Path, run: str) -> int:
    """How often a process has died of this segment in this run: each leaves its note behind."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        name, count = trying.read_text().split()
        return int(count) if name == run else 0
    return 0


def _note_try(trying: Path, run: str, deaths: int) -> None:
    trying.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER)
    trying.write_text(f"{run} {deaths + 1}\n")


def here(segments: Sequence[Segment], options: Options, out: Path) -> Generator[Done, None, None]:
    """In this process, one after the other."""
    analyst, run = Analyst(options), secrets.token_hex(4)
    for segment in segments:
        yield work(analyst, segment, out, run)


class _Actor:
    """A process of Ray's with a model of its own."""

    def __init__(self, options: Options, out: str, run: str) -> None:
        self.analyst, self.out, self.run = Analyst(options), Path(out), run

    def work(self, segment: Segment) -> Done:
        return work(self.analyst, segment, self.out, self.run)


def on_ray(
    segments: Sequence[Segment], options: Options, out: Path, workers: int, address: str = ""
) -> Generator[Done, None, None]:
    """By actors of Ray, in the order in which they are done. One that dies is begun anew, and its segment tried again.

    workers  processes; with an address and 0: as many as the cluster has cores, or GPUs
    address  of a cluster that runs; "": a Ray of our own, which no other machine can reach, and which ends with us
    Raises UserError where Ray is missing or does not answer, or its processes cannot work.
    """
    ray = load_ray()
    with _session(ray, workers, address):
        resources = ray.cluster_resources()
        workers = workers or int(resources.get("GPU", 0)) or max(1, int(resources.get("CPU", 1)))
        workers = min(workers, len(segments))
        share = min(1.0, resources.get("GPU", 0.0) / workers)
        again = DEATHS * len(segments)  # at the most, if all of them are deadly
        actor = ray.remote(num_cpus=1, num_gpus=share, max_restarts=again, max_task_retries=again)(_Actor)
        run = secrets.token_hex(4)
        pool = ray.util.ActorPool([actor.remote(options, str(out), run) for _ in range(workers)])
        try:
            yield from pool.map_unordered(lambda one, segment: one.work.remote(segment), segments)
        except ray.exceptions.RayError as error:
            reason = redact(str(error).strip().splitlines()[-1])
            raise UserError(f"Ray's processes cannot go on ({reason}); --workers 1 does without Ray") from None


def load_ray() -> Any:
    try:
        import ray
        import ray.util
    except ImportError:
        raise UserError(
            "several workers need the package ray; install personsearch[archive], or give --workers 1"
        ) from None
    return ray


@contextlib.contextmanager
def _session(ray: Any, workers: int, address: str) -> Iterator[None]:
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    with contextlib.ExitStack() as stack:
        if address:
            _knock(address)
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UserError(f"--ray {address}: {redact(str(error).splitlines()[0])}; is a cluster there?") from None
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ps-ray-", ignore_cleanup_errors=True))
            ray.init(num_cpus=workers, object_store_memory=STORE_BYTES, _temp_dir=folder, **quiet)
        stack.callback(ray.shutdown)
        yield


def _knock(address: str) -> None:
    """Ray itself tries for minutes. Raises UserError where nothing listens."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S):
            pass
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror or "no answer" if isinstance(error, OSError) else "no port"
        raise UserError(f"--ray {address}: {reason}; expected HOST:PORT of a cluster's head, or auto") from None


def prepare_ray(address: str = "") -> None:
    """Before Ray is imported: no statistics to anybody; a Ray of our own keeps to loopback, and lets in nobody without
    this run's token."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # that processes died, in its words
    if not address:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's own way to say: one machine, 127.0.0.1
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
