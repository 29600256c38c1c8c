#!/usr/bin/env python
"""How fast is a bundle here? `python export/bench.py BUNDLE` measures every engine and precision that this machine
can run, beside PyTorch eager and a large matrix product of the same precision; prints a table, writes JSON and a plot.

Other batch sizes than the bundle's own, and PyTorch itself, need the weights: weights.pth in the bundle, or
--checkpoint. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import sys

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main
from personsearch.core.resources import here_or_shipped


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "bundle",
        type=here_or_shipped,
        help="or a training configuration FILE.yaml: random weights, for speed only; "
        "or FILE.json of an earlier run: print its Markdown table",
    )
    parser.add_argument("--checkpoint", default="", help="weights for PyTorch and other batch sizes")
    parser.add_argument("--batches", default="", help="for example 1,2,4,8 (default: the bundle's own)")
    parser.add_argument("--engines", default="", help="comma-separated names (default: all that run here)")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each measurement (default 4)")
    parser.add_argument("--frames", default="", metavar="DIR|VIDEO", help="frames to run on (default: street)")
    parser.add_argument("--out", default="", metavar="FILE.json", help="write the figures, and a plot beside them")
    given = parser.parse_args()
    from personsearch.export.benchmark import BenchOptions, markdown, run_bench

    if given.bundle.suffix == ".json":
        print(markdown(given.bundle))
        return 0
    try:
        batches = tuple(int(text) for text in given.batches.split(",") if text)
    except ValueError:
        raise UserError(f"--batches: expected numbers such as 1,2,4,8, got {given.batches!r}") from None
    if any(batch < 1 for batch in batches) or given.seconds <= 0:
        raise UserError("--batches and --seconds must be positive")
    engines = tuple(name for name in given.engines.split(",") if name)
    run_bench(BenchOptions(given.bundle, given.checkpoint, batches, engines, given.seconds, given.frames, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
