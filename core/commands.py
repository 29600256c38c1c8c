"""What every command of the project shares: its parser with `--version`. How it ends: run_main of errors.py."""

from __future__ import annotations

import argparse

from personsearch.core import __version__


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help prints the module's docstring as it is written."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"personsearch {__version__}")
    return parser
