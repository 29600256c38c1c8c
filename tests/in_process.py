"""The project's commands inside this process: for what they say of wrong input, where starting Python and its libraries
anew takes seconds and shows nothing. Each command has its real start in other tests."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import TextIO
from unittest.mock import patch


def call(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As `run` of conftest.py, without a process of its own. The output is all that reaches the descriptors: what is
    printed, what the stream's console writes past `sys.stderr`, and what helper processes say."""
    module = importlib.import_module(f"personsearch.{script.removesuffix('.py').replace('/', '.')}")
    command = [script, *map(str, arguments)]
    with _file() as out, _file() as err:
        with (
            _put_back(), patch.object(sys, "argv", command), contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err), _descriptor(1, out), _descriptor(2, err),
        ):  # fmt: skip
            try:
                status = module.main()
            except SystemExit as end:  # argparse
                status = end.code
        return subprocess.CompletedProcess(command, status, _text(out), _text(err))


def _file() -> TextIO:
    return tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8", errors="backslashreplace")


def _text(file: TextIO) -> str:
    file.seek(0)
    return file.read()


@contextlib.contextmanager
def _descriptor(number: int, file: TextIO) -> Iterator[None]:
    """Whatever is written to this descriptor goes into the file."""
    kept = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def _put_back() -> Iterator[None]:
    """What a stream sets for its whole process: signals, logs, and what is said of threads that die."""
    root, hook = logging.getLogger(), threading.excepthook
    handlers, level = root.handlers[:], root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)
        root.handlers[:], threading.excepthook = handlers, hook
        root.setLevel(level)
