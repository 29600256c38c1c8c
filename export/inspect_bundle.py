#!/usr/bin/env python
"""A bundle at a glance: `python export/inspect_bundle.py BUNDLE` prints sizes, graphs, multiply-adds by stage,
precisions, hashes, parity and thresholds. Exit status 2 for a damaged bundle."""

from __future__ import annotations

import json
import sys

from personsearch.core.commands import command_line
from personsearch.core.errors import run_main
from personsearch.core.resources import here_or_shipped


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("bundle", type=here_or_shipped)
    parser.add_argument("--json", action="store_true", help="machine-readable instead")
    given = parser.parse_args()
    from personsearch.export.inspection import inspect_bundle, lines

    content = inspect_bundle(given.bundle)
    print(json.dumps(content, indent=1) if given.json else "\n".join(lines(content)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
