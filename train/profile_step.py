#!/usr/bin/env python
"""Time and profile training steps on the synthetic street: `python train/profile_step.py --config configs/paper.yaml`.

Prints images per second, processor time, peak memory and the slowest operations. Needs no data set: the street's
frames are letterboxed to the configured canvas; weights are random, so proposals are too, which costs the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from personsearch.core.errors import run_main

DEFAULT = Path(__file__).resolve().parent.parent / "configs" / "paper.yaml"


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(DEFAULT))
    parser.add_argument("--steps", type=int, default=1, help="timed steps, after one to warm up")
    parser.add_argument("--rows", type=int, default=12, help="operations to list; 0 = time without the profiler")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example optimiser.batch=2")
    arguments = parser.parse_args()
    import torch
    from torch.profiler import ProfilerActivity, profile

    from personsearch.core.config import load_settings
    from personsearch.train.loop import Trainer
    from personsearch.train.settings import DataSettings, SourceSettings, TrainSettings

    street = SourceSettings(format="street", frames=16, identities=40, cameras=4, people=8)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(arguments.config, TrainSettings, [*arguments.overrides, f"out={folder}"])
        data = DataSettings(train=(street,), test=street, workers=0, augment=settings.data.augment)
        trainer = Trainer(settings.model_copy(update={"data": data}))
        trainer.network.train()
        cuda = trainer.device.type == "cuda"
        groups = trainer.batches()
        trainer.train_step(next(groups))
        ready = [next(groups) for _ in range(arguments.steps)]
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
        began, worked = time.perf_counter(), time.process_time()
        if arguments.rows:
            with profile(activities=activities) as record:
                for batches in ready:
                    trainer.train_step(batches)
        else:
            for batches in ready:
                trainer.train_step(batches)
        if cuda:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - began) / arguments.steps
        cpu_seconds = (time.process_time() - worked) / arguments.steps
    images = settings.optimiser.batch * settings.optimiser.accumulate
    memory = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "images_per_s": round(images / seconds, 4), "s_per_step": round(seconds, 3),
        "cpu_s_per_step": round(cpu_seconds, 2), "images_per_step": images,
        "peak_memory_gb": round(memory / 1e9, 2), "device": str(trainer.device), "threads": torch.get_num_threads(),
        "canvas": [settings.model.height, settings.model.width], "backbone": settings.model.backbone,
        "checkpointing": settings.model.checkpointing, "amp": settings.optimiser.amp,
    }  # fmt: skip
    if arguments.rows:
        order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
        print(record.key_averages().table(sort_by=order, row_limit=arguments.rows, max_name_column_width=45))
    print(json.dumps(figures))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
