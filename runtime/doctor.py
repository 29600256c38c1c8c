#!/usr/bin/env python
"""What this box can do, and what is wrong with it: `personsearch-doctor [--cams cams.yaml] [--json] [--report FILE]`.

Looks at the machine, tries every engine on the bundle for a few seconds and says why the others do not work, measures
what the given cameras cost to decode, and how many the box sustains; then clock, disk, permissions and ports. A file
with all of it (no password, no name of a person, no picture) can be sent to somebody who helps; after a problem that
the doctor does not know it is written by itself. Changes nothing. Stop a running stream first, it would be
measured too.

Exit status 0, 2 for a wrong command line, 3 if there are problems.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.commands import command_line
from personsearch.core.errors import ConfigError, UserError, run_main
from personsearch.core.plain_logs import plain_logs

if TYPE_CHECKING:
    from personsearch.runtime.settings import StreamSettings

EXIT_PROBLEMS = 3
DEFAULT_REPORT = "personsearch-doctor.json"


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--cams", default="", metavar="FILE", help="YAML file with cameras, as for personsearch-stream")
    parser.add_argument("--bundle", default="", help="bundle folder (default: `bundle` in the file, else models/edge)")
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each engine and camera (default 3)")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument("--report", default="", metavar="FILE", help="also write everything there, to be sent")
    given = parser.parse_args()
    if not 0 < given.seconds <= 600:
        raise UserError(f"--seconds {given.seconds:g}: expected more than 0 and at most 600")
    from personsearch.core.text import json_line, printable
    from personsearch.runtime.operations.examination import examine
    from personsearch.runtime.operations.report import as_data, as_lines, write_report
    from personsearch.runtime.settings import default_bundle

    plain_logs(logging.ERROR)
    settings, trouble = _settings(given.cams)
    bundle = Path(given.bundle or (settings.bundle if settings else "") or default_bundle())
    found = examine(settings, bundle, given.seconds, trouble)
    data = as_data(found, settings)
    print(json_line(data) if given.json else printable("\n".join(as_lines(found)), keep="\n"))
    report = given.report or (DEFAULT_REPORT if found.unknown else "")
    if report:
        write_report(report, data)
        print(f"wrote {report}: it holds no password, no name of a person and no picture; read it, then send it to "
              "whoever helps you", file=sys.stderr)  # fmt: skip
    return EXIT_PROBLEMS if found.problems else 0


def _settings(cams: str) -> tuple[StreamSettings | None, str]:
    """A file with an error is a finding like others: the machine is examined all the same. Raises ConfigError if
    there is no such file."""
    from personsearch.core.config import load_settings
    from personsearch.runtime.settings import StreamSettings

    if not cams:
        return None, ""
    if not Path(cams).exists():
        raise ConfigError(f"{cams}: no such file; personsearch-stream --write-config begins one")
    try:
        return load_settings(cams, StreamSettings), ""
    except ConfigError as error:
        return None, str(error)


if __name__ == "__main__":
    sys.exit(main())
