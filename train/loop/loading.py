"""The batches of a run, from the step where it stands to its end."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from personsearch.train import distributed
from personsearch.train.data.samples import Samples, WeightedDraws, collate, quiet_worker
from personsearch.train.model.network import Targets
from personsearch.train.settings import TrainSettings

Batch = tuple[Tensor, list[Targets]]


def batches_of(
    samples: Samples, settings: TrainSettings, step: int, steps: int, pinned: bool
) -> Generator[list[Batch], None, None]:
    """One list of `optimiser.accumulate` batches for each of the next `steps` steps of this process.

    pinned  memory that a GPU reads while it computes
    """
    if steps <= 0:  # a finished run: starting loading processes takes seconds
        return
    options, workers = settings.optimiser, settings.data.workers
    draws = WeightedDraws(
        samples.weights,
        options.batch,
        settings.seed,
        step * options.accumulate,
        steps * options.accumulate,
        distributed.rank(),
        distributed.world_size(),
        [image.camera for image in samples.images] if settings.data.one_camera else None,
    )
    loader = DataLoader(
        samples,
        batch_sampler=draws,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=quiet_worker,
        prefetch_factor=4 if workers else None,
        # Forked processes would inherit OpenCV's locked thread pool and hang.
        multiprocessing_context="spawn" if workers else None,
        pin_memory=pinned,
        # Its own generator: a new loader must not draw from the random state that a resumed run restores.
        generator=torch.Generator(),
    )
    group: list[Batch] = []
    for batch in loader:
        group.append(batch)
        if len(group) == options.accumulate:
            yield group
            group = []
