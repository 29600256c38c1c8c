"""Trials in processes of their own: an engine on pictures for a few seconds, a camera for a few frames.

What is tried may hang, or take its process with it (a library built for another processor): then that is the result.
`python -m personsearch.runtime.operations.trials` reads one trial as JSON from stdin, so no password stands in a list
of processes, and answers on stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.core.redaction import redact

MODULE = "personsearch.runtime.operations.trials"
PICTURES = "synthetic://street?seed=7&people=5&width=1280&height=720"
AT_ONCE = 8  # descriptions in one call, as in the stream
LEAST_FRAMES, MOST_FRAMES = 5, 150


@dataclass(frozen=True)
class EngineTrial:
    """Times are seconds; `cpu` ones are of all threads together. `problem` is empty if the engine works here."""

    choice: str
    name: str = ""
    load_s: float = 0.0
    find_s: float = 0.0  # to find people in a frame of 1280x720
    find_cpu_s: float = 0.0
    describe_s: float = 0.0  # to describe a person; 0 if the bundle describes whom it finds
    describe_cpu_s: float = 0.0
    people: float = 0.0  # found in a picture
    problem: str = ""
    late: bool = False  # it gave no answer in time: it hangs, or the machine is very busy


@dataclass(frozen=True)
class CameraTrial:
    name: str
    fps: float = 0.0  # as announced, or of a live camera as it came
    size: tuple[int, int] = (0, 0)  # width and height as analysed
    frames: int = 0
    decoder: str = ""  # what decodes it, and why
    cpu_s: float = 0.0  # of one core to read, decode and prepare a frame
    picture: tuple[int, int] = (0, 0)  # width and height of the whole upright picture
    problem: str = ""


def try_engine(bundle: str | Path, choice: str, threads: int, seconds: float, timeout_s: float = 300) -> EngineTrial:
    question = {"kind": "engine", "bundle": str(bundle), "choice": choice, "threads": threads, "seconds": seconds}
    try:
        return EngineTrial(**{"choice": choice, **_ask(question, timeout_s + seconds)})
    except subprocess.TimeoutExpired:
        return EngineTrial(choice, problem=_late(timeout_s + seconds), late=True)


def try_camera(options: dict[str, Any], seconds: float) -> CameraTrial:
    """options  the camera's settings as a dictionary, the url with its secrets"""
    limit = seconds + 2 * (options["open_timeout_s"] + options["read_timeout_s"]) + 30  # ... and a busy machine
    try:
        answer = _ask({"kind": "camera", "options": options, "seconds": seconds}, limit, quiet=True)
    except subprocess.TimeoutExpired:
        return CameraTrial(options["name"], problem=_late(limit))
    sizes = {key: tuple(answer.get(key, (0, 0))) for key in ("size", "picture")}
    return CameraTrial(**{"name": options["name"], **answer, **sizes})


def _late(seconds: float) -> str:
    return f"no answer within {seconds:.0f} s; it hangs, or this machine is very busy"


def _ask(question: dict[str, Any], timeout_s: float, quiet: bool = False) -> dict[str, Any]:
    """The trial's answer, or what became of its process as {"problem": ...}. Raises TimeoutExpired; it was ended."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    if quiet:
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", MODULE], input=json.dumps(question), capture_output=True, text=True,
            errors="replace", timeout=timeout_s, env=environment, check=False,
        )  # fmt: skip
    except OSError as error:
        return {"problem": f"its process cannot be started ({error.strerror})"}
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        meaning = {"SIGILL": ": built for another processor", "SIGKILL": ": perhaps out of memory"}.get(name, "")
        return {"problem": f"its process died of {name}{meaning}"}
    try:
        return dict(json.loads(done.stdout.rstrip().rpartition("\n")[2]))
    except ValueError:
        last = (done.stderr.strip() or "without a word").rpartition("\n")[2]
        return {"problem": redact(f"its process ended with {done.returncode}: {last[:300]}")}


# --- in the trial's process -------------------------------------------------------------------------------------------


def _timed(job: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Seconds and processor seconds that one run of `job` takes, over at least two runs."""
    runs, began, spent = 0, time.perf_counter(), time.process_time()
    while runs < 2 or time.perf_counter() - began < seconds:
        job()
        runs += 1
    return (time.perf_counter() - began) / runs, (time.process_time() - spent) / runs


def _engine(bundle: str, choice: str, threads: int, seconds: float) -> EngineTrial:
    """Raises UserError where the engine cannot run."""
    from personsearch.core.engines.searcher import BundleSearcher
    from personsearch.core.street.street import parse_street_url, street_of

    began = time.perf_counter()
    searcher = BundleSearcher(bundle, choice, threads)
    load_s = time.perf_counter() - began
    url = parse_street_url(PICTURES)
    pictures = [street_of(url).frame(url.camera, 20 * number).image for number in range(4)]
    found = [searcher.find([picture])[0] for picture in pictures]
    turn = iter(range(10**9))
    find = _timed(lambda: searcher.find([pictures[next(turn) % len(pictures)]]), seconds)
    views = [(picture, box) for picture, people in zip(pictures, found, strict=True) for box in people.boxes][:AT_ONCE]
    describe = (0.0, 0.0)
    if searcher.manifest.describe != "all" and views:
        searcher.describe(views)
        describe = _timed(lambda: searcher.describe(views), seconds / 2)
    each = max(1, len(views))
    return EngineTrial(
        choice, searcher.engine.name, load_s, *find, describe[0] / each, describe[1] / each,
        sum(len(people) for people in found) / len(found),
    )  # fmt: skip


def _camera(options: dict[str, Any], seconds: float) -> CameraTrial:
    import cv2

    from personsearch.core.video_files import SourceError
    from personsearch.runtime.cameras.listener import Listener
    from personsearch.runtime.cameras.preparing import prepare
    from personsearch.runtime.cameras.sources import open_source
    from personsearch.runtime.cameras.urls import kind_of

    cv2.setNumThreads(1)
    name, live = options["name"], kind_of(options["url"]) in ("network", "webcam")
    listener = Listener()
    try:
        source = open_source(options)
        source.begin()
    except SourceError as error:
        time.sleep(0.05)  # FFmpeg's last words may still be on their way through the pipe
        cause = error.cause or listener.cause
        return CameraTrial(name, problem=f"{error}{f' ({cause})' if cause else ''}")
    size, picture, frames = (0, 0), (0, 0), 0
    began = first = time.monotonic()
    spent = time.process_time()
    while frames < MOST_FRAMES and (frames < LEAST_FRAMES or time.monotonic() - began < seconds) and source.grab():
        image = source.retrieve()
        if image is None:
            continue
        image, _, _, picture = prepare(image, options)
        size, frames = (image.shape[1], image.shape[0]), frames + 1
        if frames == 1:
            first, spent = time.monotonic(), time.process_time()  # opening, and waiting for a key frame, comes once
    elapsed, cpu = time.monotonic() - first, time.process_time() - spent
    if not frames:
        return CameraTrial(name, problem="it opens, but gave no frame that can be read")
    fps = (frames - 1) / elapsed if live and frames > 1 else source.fps or 25.0
    return CameraTrial(name, round(fps, 2), size, frames, source.decoder(), cpu / max(1, frames - 1), picture)


def main() -> None:
    question = json.load(sys.stdin)
    kind = question.pop("kind")
    with contextlib.redirect_stdout(sys.stderr):
        try:
            result = asdict(_engine(**question) if kind == "engine" else _camera(**question))
        except UserError as error:
            result = {"problem": str(error)}
        except Exception as error:  # whatever a library raises is the answer to what was asked
            result = {"problem": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), flush=True)
    os._exit(0)  # decoders and engines may hang in their own end


if __name__ == "__main__":
    main()
