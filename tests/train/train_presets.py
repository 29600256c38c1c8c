"""Every preset in small, to the end or from a checkpoint on the way: two processes for `test_resume.py`.

first   as a script: train a step, save last.pth, train another, save whole.pth; then kill itself with SIGKILL
second  resume last.pth, train the rest, save resumed.pth
"""

import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from personsearch.core.config import load_settings
from personsearch.core.resources import shipped
from personsearch.train.loop.trainer import Trainer
from personsearch.train.settings import TrainSettings
from personsearch.train.vision import models

SMALL = [
    "optimiser.batch=1", "optimiser.epochs=1", "optimiser.steps_per_epoch=2", "data.workers=0", "model.roi.sampled=6",
    "data.train.0.format=street", "data.train.0.frames=8", "data.test.format=street", "data.test.frames=8",
    "model.identity.queue=20", "device=cpu", "model.height=96", "model.width=160", "optimiser.amp=off",
    "model.rpn.train_proposals=20",
]  # fmt: skip
SMALL_PEOPLE = ["from_scratch=true", 'init=""', 'init_reid=""', "model.roi.height=64", "model.roi.width=32"]
FROM_NOTHING = ["from_scratch=true", "model.height=64", "model.width=96"]
PRESETS = {
    "edge": SMALL_PEOPLE,  # with its detector_rate of 0.1: two groups of parameters
    "edge-distill": [*SMALL_PEOPLE, "teacher.embedding={out}/teacher.onnx"],
    "ablation": [],
    "paper": FROM_NOTHING,
    "official": FROM_NOTHING,
}


def write_teacher(path: Path) -> None:
    """Mixtures of the mean colours of a crop's quarters: a teacher, if not one of people."""
    crops = helper.make_tensor_value_info("crops", TensorProto.FLOAT, [1, 3, 32, 16])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [1, 256])
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(12, 256)).astype(np.float32), "weights")
    nodes = [
        helper.make_node("AveragePool", ["crops"], ["means"], kernel_shape=[16, 8], strides=[16, 8]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["vectors"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "teacher", [crops], [vectors], [weights]), ir_version=8,
                              opset_imports=[helper.make_opsetid("", 17)])  # fmt: skip
    onnx.save(model, str(path))


def shallow(weights: None) -> models.ResNet:
    """ResNet-50 with one block a stage: a third of the parameters to write, read and compare."""
    return models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1])


def trainer_of(name: str, out: Path, resume: bool) -> Trainer:
    config = shipped(f"configs/{name}.yaml")
    changes = [change.format(out=out) for change in PRESETS[name]]
    trainer = Trainer(load_settings(config, TrainSettings, [*SMALL, *changes, f"out={out / name}"]), resume)
    trainer.network.train()
    return trainer


def main(turn: str, out: Path) -> None:
    torch.set_num_threads(1)  # tiny steps: threads would only wait for each other
    if turn == "first":
        write_teacher(out / "teacher.onnx")
    for name in PRESETS:
        with patch("torchvision.models.resnet50", shallow):
            trainer = trainer_of(name, out, turn == "second")
        for batches in trainer.batches():
            trainer.train_step(batches)
            if trainer.step == 1:
                trainer.save("last.pth")
        trainer.save("whole.pth" if turn == "first" else "resumed.pth")
        assert turn == "second" or name != "edge" or "torch._dynamo" not in sys.modules  # seconds of each start
    if turn == "first":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main("first", Path(sys.argv[1]))
