"""Errors that a user can cause and repair; everything else is a bug and keeps its traceback.

UserError
├── ConfigError      a configuration file or a key=value argument
├── DataError        a data set, an image or a video
├── CheckpointError  a training checkpoint
├── BundleError      a deployable bundle
├── GalleryError     an enrolment gallery
├── CameraError      a camera URL or stream
└── EngineError      an inference engine or its build
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable

from personsearch.core.plain_logs import without_set_up
from personsearch.core.redaction import redact
from personsearch.core.text import printable, set_up_output

EXIT_USER_ERROR = 2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)  # descriptors, memory, processes
WHEN_SCARCE = "end other programs, or raise the limits of this user (ulimit -a)"
LINE_BREAK = "\n"  # several faults of one file come in one message
# Packages that an installation without the extra [train] does not have; setup.cfg lists them.
TRAINING_PACKAGES = ("torch", "torchvision", "onnx", "scipy", "tensorboard", "tqdm", "matplotlib", "safetensors")
PAGE_PACKAGES = ("starlette", "uvicorn", "websockets", "argon2", "ruamel", "cryptography")  # the same for [page]


class UserError(Exception):
    """A message that says what was expected, what came, and what to do next."""


class ConfigError(UserError):
    pass


class DataError(UserError):
    pass


class CheckpointError(UserError):
    pass


class BundleError(UserError):
    pass


class GalleryError(UserError):
    pass


class CameraError(UserError):
    pass


class EngineError(UserError):
    pass


def run_main(main: Callable[[], int | None]) -> int:
    """Run an entry point: a `UserError`, and a file that cannot be read or written, becomes one line on stderr and exit
    status 2, Ctrl-C becomes 130. What is said holds no secret, and an output that has gone away changes no exit
    status. A package that only an extra ([train], [page]) installs is such a line as well."""
    set_up_output()
    without_set_up()
    try:
        return main() or 0
    except UserError as error:
        _say(f"error: {printable(str(error), keep=LINE_BREAK)}")
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = "train" if package in TRAINING_PACKAGES else "page" if package in PAGE_PACKAGES else ""
        if not extra:
            _say(traceback.format_exc().rstrip())
            return 1
        _say(f"error: this command needs {package}; install personsearch[{extra}]")
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:  # `... | head`: the reader went away, which is no fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno not in (*FULL, *SCARCE, errno.ENOENT):  # (no temporary folder)
            _say(traceback.format_exc().rstrip())
            return 1
        place = f"{error.filename}: " if error.filename is not None else ""
        what = WHEN_SCARCE if error.errno in SCARCE else "check the path and the disk"
        _say(f"error: {printable(f'{place}{error.strerror}')}; {what}")
        return EXIT_USER_ERROR
    except MemoryError:
        _say(f"error: the memory is full; {WHEN_SCARCE}")
        return EXIT_USER_ERROR
    except Exception as error:  # a bug, but for the one thing of which Python does not say that it is scarce
        if str(error) == "can't start new thread":
            _say(f"error: no further thread can be started; {WHEN_SCARCE}")
            return EXIT_USER_ERROR
        _say(traceback.format_exc().rstrip())
        return 1


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(redact(text), file=sys.stderr, flush=True)
