#!/usr/bin/env python
"""Time and profile training steps on the synthetic street: `python train/profile_step.py --config configs/paper.yaml`.

Prints images per second, processor time, peak memory and the slowest operations. Needs no data set: the street's
frames are letterboxed to the configured canvas; weights are random, so proposals are too, which costs the same.
"""

from __future__ import annotations

import json
import sys
import tempfile

from personsearch.core.commands import command_line, within
from personsearch.core.errors import run_main
from personsearch.core.files import replace_file
from personsearch.core.resources import here_or_shipped, shipped

DEFAULT = shipped("configs/paper.yaml")


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--config", type=here_or_shipped, default=DEFAULT)
    parser.add_argument("--steps", type=within(int, 1), default=1, help="timed steps, after one to warm up")
    parser.add_argument(
        "--rows", type=within(int, 0), default=12, help="operations to list; 0 = time without the profiler"
    )
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example optimiser.batch=2")
    arguments = parser.parse_args()
    from personsearch.core.config import load_settings
    from personsearch.train.loop.profiling import profile_steps
    from personsearch.train.loop.trainer import Trainer
    from personsearch.train.settings import DataSettings, SourceSettings, TrainSettings

    street = SourceSettings(format="street", frames=16, identities=40, cameras=4, people=8)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(arguments.config, TrainSettings, [*arguments.overrides, f"out={folder}"])
        settings = settings.model_copy(update={"init_resnet": "", "from_scratch": True})
        data = DataSettings(train=(street,), test=street, workers=0, augment=settings.data.augment)
        trainer = Trainer(settings.model_copy(update={"data": data}))
        figures, table = profile_steps(trainer, arguments.steps, rows=arguments.rows, preloaded=True)
    print(table)
    print(json.dumps(figures))
    if arguments.json:
        replace_file(arguments.json, f"{json.dumps(figures, indent=1)}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
