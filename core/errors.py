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

import os
import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2


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
    """Run an entry point: a `UserError` becomes one line on stderr and exit status 2, Ctrl-C becomes 130."""
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head`: the reader went away, which is no fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
