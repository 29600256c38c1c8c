"""What every command of the project shares: its parser, with `--version`, plain numbers, and errors without secrets.
How a command ends: run_main of errors.py."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from personsearch.core import __version__
from personsearch.core.redaction import redact, remember_urls
from personsearch.core.text import printable

_WHOLE = re.compile(r"[+-]?[0-9]{1,15}")
_MAY_HOLD_SECRETS = re.compile(r"://|:.*@", re.S)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,15}\.?[0-9]{0,15}|\.[0-9]{1,15})(?:[eE][+-]?[0-9]{1,3})?")


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help prints the module's docstring as it is written. `type=int` and `type=float` take plain and
    finite numbers only; `within` also gives their limits."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"personsearch {__version__}")
    parser.register("type", int, within(int))
    parser.register("type", float, within(float))
    return parser


def within(kind: type[int] | type[float], least: float = -math.inf, most: float = math.inf) -> Callable[[str], float]:
    """The `type` of an option that is a number from `least` to `most`."""
    what = "whole number" if kind is int else "number"
    if least > -math.inf or most < math.inf:
        what += f" of at least {least:g}" if most == math.inf else f" from {least:g} to {most:g}"

    def parse(text: str) -> float:
        plain = (_WHOLE if kind is int else _DECIMAL).fullmatch(text.strip())
        value = kind(text) if plain else math.nan
        if not (math.isfinite(value) and least <= value <= most):
            raise argparse.ArgumentTypeError(f"expected a {what}, got '{text[:60]}'")
        return value

    return parse


class _Parser(argparse.ArgumentParser):
    """One whose errors say no secret and act on no terminal, whatever was typed."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given: Sequence[str] = sys.argv[1:] if args is None else args
        remember_urls([text for text in given if _MAY_HOLD_SECRETS.search(text)])
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(printable(redact(message)))
