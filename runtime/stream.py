#!/usr/bin/env python
"""Watch cameras and publish matches: `runtime/stream.py --cams cams.yaml [--bundle B] [--gallery G] [--record DIR]`.
`--page` also serves the operator's page (docs/page.md).
`--write-config cams.yaml` begins one: every key with a comment.

Ends when the last camera has ended, or on Ctrl-C or SIGTERM, with a summary. SIGHUP, or a changed file, reloads
cameras, thresholds and gallery; it goes on when its terminal or the reader of its output goes away. Exit status 0, 2
for wrong input, or 4 if the inference engine failed for good.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.commands import command_line
from personsearch.core.errors import run_main
from personsearch.core.resources import begin_config

if TYPE_CHECKING:
    from personsearch.runtime.operations.console import Console


def main(arguments: Sequence[str] | None = None) -> int:
    """arguments  of the command line; None takes the program's own"""
    return run_main(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    from personsearch.runtime.operations.console import Console

    signal.signal(signal.SIGHUP, lambda *_: None)  # a terminal that closes, until there is something to reload
    console = Console()
    try:
        return _stream(console, arguments)
    finally:
        console.close()


def _stream(console: Console, given: Sequence[str] | None) -> int:
    parser = command_line(__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--cams", default="", metavar="FILE", help="YAML file with cameras; see configs/cams.yaml")
    task.add_argument(
        "--write-config", nargs="?", const="cams.yaml", metavar="FILE", help="write a commented cams.yaml, then end"
    )
    parser.add_argument("--bundle", default="", help="bundle folder (default: `bundle` in the file, else models/edge)")
    parser.add_argument("--gallery", default="", help="gallery file (default: `gallery` in the file)")
    parser.add_argument("--record", default="", metavar="DIR", help="write annotated video there; off by default")
    parser.add_argument("--page", action="store_true", help="serve the operator's page, also if the file says no")
    parser.add_argument("--engine", default="", help="inference engine (default: `engine` in the file, else auto)")
    parser.add_argument("--validate", action="store_true", help="check all files, then end")
    parser.add_argument("--keep-trying", action="store_true", help="go on even if no camera can be opened at the start")
    arguments = parser.parse_args(given)
    if arguments.write_config is not None:
        write_config(Path(arguments.write_config))
        return 0
    from personsearch.runtime.box import Box, read_inputs
    from personsearch.runtime.operations.console import STDOUT
    from personsearch.runtime.operations.logs import status_text
    from personsearch.runtime.operations.status import status_lines, summary

    inputs = read_inputs(arguments, console)
    if arguments.validate:
        inputs.try_out()
        counts = f"{len(inputs.settings.cameras)} cameras, {len(inputs.gallery.people)} people"
        console.say(f"valid: {counts}, model {inputs.gallery.model_hash}", STDOUT)
        return 0
    with Box(inputs) as box:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: box.pipeline.stop())
        signal.signal(signal.SIGHUP, lambda *_: box.reloader.ask())
        kind = inputs.settings.operations.log
        box.pipeline.run(lambda: console.say(status_text(kind, status_lines(box.pipeline))))
    console.say(summary(box.pipeline), STDOUT)
    return box.pipeline.exit_status


def write_config(path: Path) -> None:
    """Raises ConfigError."""
    begin_config("configs/cams.yaml", path, "--write-config")
    print(f"wrote {path}: edit its cameras, enrol people with personsearch-enroll, check it all with --validate")


if __name__ == "__main__":
    sys.exit(main())
