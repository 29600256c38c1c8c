"""What a run's steps cost: waiting for data, processor and GPU time, memory, and the slowest operations."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from personsearch.core.errors import UserError
from personsearch.train import distributed
from personsearch.train.loop.trainer import Trainer

TRACE = "trace.json"


def profile_steps(
    trainer: Trainer, steps: int, *, rows: int = 12, trace: Path | None = None, preloaded: bool = False
) -> tuple[dict[str, Any], str]:
    """Train one step to warm up and `steps` more -> figures of the mean step, and a table of `rows` operations.

    rows       0 = time without the profiler, which costs time itself; the table is then empty
    trace      where to write the timeline (for chrome://tracing or Perfetto), if anywhere
    preloaded  load all batches first, so that only the steps themselves are measured

    Moves the trainer's weights; nothing is saved. Raises UserError if the run has too few steps left.
    """
    left = trainer.total_steps - trainer.step
    if left <= steps:
        raise UserError(f"profiling takes {steps + 1} steps, but the run has {left}: raise optimiser.epochs")
    trainer.network.train()
    cuda = trainer.device.type == "cuda"
    loading = trainer.batches()
    trainer.train_step(next(loading))
    groups: Iterator[Any] = iter([next(loading) for _ in range(steps)]) if preloaded else loading
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    record = profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) if rows else None
    waited, began, worked = 0.0, time.perf_counter(), time.process_time()
    if record:
        record.start()
    for _ in range(steps):
        asked = time.perf_counter()
        batches = next(groups)
        waited += time.perf_counter() - asked
        trainer.train_step(batches)
    if cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / steps
    cpu_seconds = (time.process_time() - worked) / steps
    table = ""
    if record:
        record.stop()
        order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
        table = record.key_averages().table(sort_by=order, row_limit=rows, max_name_column_width=45)
        if trace:
            trace.parent.mkdir(parents=True, exist_ok=True)
            record.export_chrome_trace(str(trace))
    loading.close()  # type: ignore[attr-defined]  # ends the loading processes
    options, model = trainer.settings.optimiser, trainer.settings.model
    images = options.batch * options.accumulate
    memory = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "images_per_s": round(images * distributed.world_size() / seconds, 4), "s_per_step": round(seconds, 3),
        "s_waiting_for_data": round(waited / steps, 3), "cpu_s_per_step": round(cpu_seconds, 2),
        "images_per_step": images * distributed.world_size(), "peak_memory_gb": round(memory / 1e9, 2),
        "device": str(trainer.device), "threads": torch.get_num_threads(), "canvas": [model.height, model.width],
        "backbone": model.backbone, "checkpointing": model.checkpointing, "amp": trainer.amp,
    }  # fmt: skip
    return figures, table
