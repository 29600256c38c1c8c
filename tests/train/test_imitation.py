"""A detector that imitates another one with the same layers, and the exchange of its activation."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import REPOSITORY, tiny_config
from torch import nn

from personsearch.core.bundle import MODEL, OUTPUTS
from personsearch.core.config import load_settings
from personsearch.core.engines.choice import load_engine
from personsearch.core.errors import CheckpointError, ConfigError
from personsearch.core.street.street import Street, StreetSettings
from personsearch.export.deploy import DeployGraph
from personsearch.export.fold import fold
from personsearch.export.onnx_writer import write_onnx
from personsearch.train.loop.trainer import Trainer
from personsearch.train.model.activation import STEEP
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import ModelSettings, TrainSettings
from personsearch.train.state import fill
from personsearch.train.teaching.imitation import DetectorImitation
from personsearch.train.weights.checkpoint import checkpoint_settings, load_checkpoint, save_checkpoint
from personsearch.train.weights.initial_weights import initialise


def street_frames(count: int) -> torch.Tensor:
    """(count, 192, 320, 3) uint8"""
    street = Street(StreetSettings(seed=3, people=6))
    return torch.from_numpy(np.stack([street.frame(0, 9 * i).image[::2, ::2] for i in range(count)]))


@pytest.fixture(scope="module")
def silu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained detector with SiLU: the light network's, whose HSwish it comes close to."""
    path = tmp_path_factory.mktemp("silu") / "silu.pth"
    content = load_checkpoint(REPOSITORY / "models" / "light" / "weights.pth")
    config = checkpoint_settings(content, path).model_dump(mode="json")
    config["model"] |= {"activation": "silu", "height": 192, "width": 320}
    network = PersonSearch(ModelSettings.model_validate(config["model"]))
    fill(network, content["model"], path)
    with torch.no_grad():
        for module in (m for part in network.detector_parts() for m in part.modules()):
            if isinstance(module, nn.Conv2d) and module is not network.stem.stem[0]:
                module.weight.mul_(STEEP)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.div_(STEEP)
                module.bias.div_(STEEP)
    save_checkpoint(path, {"config": config, "model": network.state_dict()})
    return path


def start_from(path: Path, activation: str) -> PersonSearch:
    """What a run with this activation starts from, if its detector is taught by the one in `path`."""
    config = load_checkpoint(path)["config"]
    settings = TrainSettings.model_validate({
        **config, "model": {**config["model"], "activation": activation}, "init": str(path), "init_reid": "",
        "teacher": {"detector": str(path)},
        "loss": {"rpn": 0, "detection": 0, "identity": 0, "imitation": 1}, "optimiser": {"detector_rate": 1},
    })  # fmt: skip
    network = PersonSearch(settings.model)
    assert initialise(network, settings)
    return network.eval()


def test_whoever_does_the_same_has_nothing_to_learn(silu: Path) -> None:
    network = start_from(silu, "silu")
    with torch.no_grad():
        losses = DetectorImitation(silu, network)(network, street_frames(1))
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(
        {"maps": 0, "scores": 0, "boxes": 0}, abs=1e-6
    )


@pytest.fixture(scope="module")
def adjusted(silu: Path) -> tuple[PersonSearch, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """That detector with HSwish, and its losses before and after it was adjusted to the one with SiLU."""
    network, frames = start_from(silu, "hardswish"), street_frames(2)
    imitation = DetectorImitation(silu, network)
    with torch.no_grad():
        before = imitation(network, frames)
        imitation.adjust(network, frames)
        return network, before, imitation(network, frames)


def test_an_adjusted_network_with_hswish_starts_close_to_what_it_was_with_silu(adjusted) -> None:
    _, before, after = adjusted
    assert all(after[name] < before[name] / 2 for name in ("maps", "scores")), (before, after)
    assert after["maps"] < 0.3  # 2 is what maps have that know nothing of each other


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two tiny detectors with SiLU that know nothing of each other: a teacher and a start."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = TrainSettings.model_validate({**tiny_config(folder), "from_scratch": True})
    paths = (folder / "teacher.pth", folder / "start.pth")
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        state = PersonSearch(settings.model).state_dict()
        save_checkpoint(path, {"config": settings.model_dump(mode="json"), "model": state})
    return paths


def imitating(teacher: Path, start: Path, out: Path, **model: object) -> TrainSettings:
    return TrainSettings.model_validate({
        **tiny_config(out, activation="hardswish", freeze_norms=True, **model), "device": "cpu",
        "init": str(start), "teacher": {"detector": str(teacher)},
        "optimiser": {"kind": "adamw", "rate": 1e-4, "batch": 2, "epochs": 1, "steps_per_epoch": 5},
        "loss": {"rpn": 0, "detection": 0, "identity": 0, "imitation": 1},
    })  # fmt: skip


def test_a_run_learns_the_detector_behind_its_first_layer_and_nothing_else(
    tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    trainer = Trainer(imitating(*tiny, tmp_path))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    table = trainer.identity.lut.clone()
    trainer.network.train()
    batches = next(trainer.batches())
    losses = [float(trainer.train_step(batches)["loss"]) for _ in range(5)]
    assert losses[-1] < losses[0], losses
    changed = {n for n, value in trainer.network.state_dict().items() if not torch.equal(value, before[n])}
    assert {name.split(".")[0] for name in changed} == {"stem", "rpn"}
    assert not [name for name in changed if name.startswith(("stem.stem.", "stem.roi_"))]
    assert torch.equal(trainer.identity.lut, table)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    settings = imitating(*tiny, tmp_path)
    whole = Trainer(settings)
    whole.network.train()
    for batches in whole.batches():
        whole.train_step(batches)
        if whole.step == 2:
            whole.save("last.pth")
    resumed = Trainer(settings, resume=True)
    resumed.network.train()
    for batches in resumed.batches():
        resumed.train_step(batches)
    assert resumed.step == whole.step == 5
    state = resumed.network.state_dict()
    assert [name for name, value in whole.network.state_dict().items() if not torch.equal(value, state[name])] == []


@pytest.mark.parametrize("own", ["silu", "hardswish"])
def test_a_detector_gets_another_activation_only_from_a_teacher(own: str, tmp_path: Path) -> None:
    """Without one it would find hardly anybody, or fewer, and nobody would be told."""
    torch.manual_seed(0)
    other = {"silu": "hardswish", "hardswish": "silu"}[own]
    trained, wanted = (
        TrainSettings.model_validate({
            **tiny_config(tmp_path, activation=activation), "init": str(tmp_path / "other.pth"),
        })
        for activation in (other, own)
    )  # fmt: skip
    state = PersonSearch(trained.model).state_dict()
    save_checkpoint(tmp_path / "other.pth", {"config": trained.model_dump(mode="json"), "model": state})
    with pytest.raises(CheckpointError, match=rf"give model\.activation={other}"):
        initialise(PersonSearch(wanted.model), wanted)


def test_a_detector_with_other_layers_is_no_teacher(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    resnet = TrainSettings.model_validate({
        **tiny_config(tmp_path, backbone="resnet50", rpn={"kind": "anchors"}), "from_scratch": True
    })  # fmt: skip
    with pytest.raises(CheckpointError, match="other layers"):
        DetectorImitation(tiny[0], PersonSearch(resnet.model))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("teacher.detector=''", "go together"),
        ("loss.imitation=0", "go together"),
        ("loss.identity=1", "the detector alone"),
        ("optimiser.detector_rate=0", "detector_rate above 0"),
        ("model.activation=relu", "'silu' or 'hardswish'"),
    ],
)
def test_settings_that_would_teach_nothing_are_refused(change: str, words: str) -> None:
    preset = REPOSITORY / "configs" / "edge-hardswish.yaml"
    assert load_settings(preset, TrainSettings).model.activation == "hardswish"
    with pytest.raises(ConfigError, match=words):
        load_settings(preset, TrainSettings, [change])


def test_hswish_reaches_the_engines_as_it_is(adjusted, tmp_path: Path) -> None:
    network, picture = adjusted[0], street_frames(1)
    deployed = DeployGraph(fold(network))
    write_onnx(
        deployed, (torch.zeros_like(picture),), tmp_path / MODEL,
        input_names=["images"], output_names=OUTPUTS, inner_names=deployed.inner,
    )  # fmt: skip
    assert "HardSwish" in {node.op_type for node in onnx.load(tmp_path / MODEL).graph.node}
    (expected,) = network.search(picture, 0.2)
    people = len(expected.boxes)
    assert people >= 1
    session = onnxruntime.InferenceSession(tmp_path / MODEL)
    engines = [
        load_engine(tmp_path, "openvino-fp32").infer(picture.numpy()),
        session.run(list(OUTPUTS), {"images": picture.numpy()}),
    ]
    for boxes, scores, embeddings, _ in engines:
        assert np.allclose(boxes[0, :people], expected.boxes.numpy(), atol=0.1)
        assert np.allclose(scores[0, :people], expected.scores.numpy(), atol=5e-3)
        assert (embeddings[0, :people] * expected.embeddings.numpy()).sum(1).min() > 0.999
