#!/usr/bin/env python
"""A bundle at a glance: `python export/inspect_bundle.py BUNDLE` prints sizes, graphs, multiply-adds by stage,
precisions, hashes, parity and thresholds. Exit status 2 for a damaged bundle."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from personsearch.core.errors import run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--json", action="store_true", help="machine-readable instead")
    given = parser.parse_args()
    from personsearch.export.inspection import inspect_bundle, lines

    content = inspect_bundle(given.bundle)
    print(json.dumps(content, indent=1) if given.json else "\n".join(lines(content)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
