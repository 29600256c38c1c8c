"""Norms on uneven ranks, then a few steps of training: alone or a rank of several, as a function of the tests' process
or as a script."""

import sys

import torch
from uneven_ranks import norms_and_oim

from personsearch.core.config import load_settings
from personsearch.core.resources import shipped
from personsearch.train import distributed
from personsearch.train.loop.trainer import Trainer
from personsearch.train.settings import TrainSettings


def train_and_dump(out: str, preset: str, overrides: list[str]) -> None:
    """Write losses and state of rank 0 to `out`; in one thread, so that sums have an order."""
    torch.set_num_threads(1)
    distributed.start()
    norms = norms_and_oim()
    trainer = Trainer(load_settings(shipped(f"configs/{preset}.yaml"), TrainSettings, overrides))
    # In float64: rounding that differs with the batch size would tip decisions (NMS, IoU >= 0.5) and all that follows.
    averaged = [trainer.average.network] if trainer.average else []
    for module in (trainer.network, trainer.identity, *averaged):
        module.double()
    trainer.network.train()
    losses = []
    for batches in trainer.batches():
        values = distributed.average(torch.stack(list(trainer.train_step(batches).values())))
        losses.append(values)
    if distributed.rank() == 0:
        state = {f"model.{k}": v for k, v in trainer.network.state_dict().items()}
        state |= {f"identity.{k}": v for k, v in trainer.identity.state_dict().items()}
        state |= {f"averaged.{k}": v for module in averaged for k, v in module.state_dict().items()}
        torch.save({"losses": torch.stack(losses), "state": state, "norms": norms}, out)
    distributed.stop()


if __name__ == "__main__":
    train_and_dump(sys.argv[1], sys.argv[2], sys.argv[3:])
