"""One optimiser step and what it may change: skipped steps, accumulation, images without people, broken losses."""

from pathlib import Path

import cv2
import pytest
import torch
from conftest import tiny_config
from torchvision.models import resnet50

from personsearch.core.errors import CheckpointError, DataError
from personsearch.train.loop.curves import plot_curves
from personsearch.train.loop.mixed_precision import choose_amp
from personsearch.train.loop.trainer import Trainer
from personsearch.train.model.network import PersonSearch, Targets
from personsearch.train.settings import TrainSettings
from personsearch.train.weights.imagenet_weights import imagenet_file
from personsearch.train.weights.initial_weights import initialise


def trainer(out: Path, model: dict | None = None, **optimiser: object) -> Trainer:
    config = tiny_config(out, **(model or {}))
    config["optimiser"] |= optimiser
    made = Trainer(TrainSettings.model_validate({**config, "device": "cpu", "from_scratch": True}))
    made.network.train()
    return made


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def test_a_step_that_the_scaler_skips_leaves_weights_and_table_alone(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=1000)
    batches = made.batches()
    weights, table = state_of(made.network), state_of(made.identity)
    made.train_step(next(batches))  # overflows in float32
    assert made.scaler.get_scale() == 2.0**125
    assert all(torch.equal(table[k], v) for k, v in made.identity.state_dict().items())
    assert all(torch.equal(weights[k], v) for k, v in made.network.named_parameters())
    made.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    made.train_step(next(batches))
    assert not torch.equal(table["lut"], made.identity.lut)
    assert not torch.equal(weights["projection.weight"], made.network.projection.weight)


def test_accumulated_batches_are_one_step_and_the_table_waits_for_its_end(tmp_path: Path) -> None:
    """Without batch statistics, the gradient of two batches is the mean of theirs, at the same table."""
    model = {"identity": {"dimensions": 32, "queue": 20, "norm": "none"}}
    joint = trainer(tmp_path / "a", model, accumulate=2, kind="sgd", clip_norm=1e9)
    group = next(joint.batches())
    assert len(group) == 2
    separate = trainer(tmp_path / "b", model, kind="sgd", clip_norm=1e9)
    gradients, values = [], []
    for batch in group:
        separate.network.load_state_dict(joint.network.state_dict())
        separate.identity.load_state_dict(joint.identity.state_dict())
        values.append(separate.train_step([batch])["loss"])
        gradients.append(separate.network.projection.weight.grad.clone())
    together = joint.train_step(group)
    assert float(together["loss"]) == pytest.approx(float(sum(values)) / 2, rel=1e-5)
    assert torch.allclose(joint.network.projection.weight.grad, sum(gradients) / 2, atol=1e-5)
    assert joint.step == 1
    assert joint.steps_per_epoch == 3


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"rpn": {"kind": "dense"}, "identity": {"dimensions": 32, "queue": 20, "norm_background": False}},
        {"backbone": "resnet50", "rpn": {"kind": "anchors", "train_proposals": 20}, "conv5_protonorm": True,
         "checkpointing": True},
    ],
)  # fmt: skip
def test_images_without_people_train_the_detector_and_leave_the_table_alone(tmp_path: Path, model: dict) -> None:
    made = trainer(tmp_path, model)
    images = torch.randint(0, 255, (2, 96, 160, 3), dtype=torch.uint8)
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    stranger = Targets(torch.tensor([[10.0, 10, 40, 90]]), torch.tensor([-1]))
    losses = made.train_step([(images, [none, none])])
    assert all(torch.isfinite(v) for v in losses.values())
    assert float(losses["identity"]) == 0.0
    made.train_step([(images, [none, stranger])])
    assert float(made.identity.lut.abs().sum()) == 0.0
    assert all(torch.isfinite(v).all() for v in made.network.state_dict().values())


def test_a_broken_loss_stops_the_run_names_the_step_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.save("last.pth")
    kept = (tmp_path / "last.pth").read_bytes()
    step = made.train_step

    def poisoned(batches: list) -> dict[str, torch.Tensor]:
        if made.step == 2:
            with torch.no_grad():
                made.network.projection.weight[0, 0] = float("nan")
        return step(batches)

    made.train_step = poisoned  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"not finite at step 2 \(loss, identity\); .*last.pth holds the last good"):
        made.run()
    assert (tmp_path / "last.pth").read_bytes() == kept


def test_only_losses_that_count_are_reported_and_drawn(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    config["loss"] = {"detection": 0.0}
    made = Trainer(TrainSettings.model_validate({**config, "device": "cpu"}))
    made.network.train()
    assert list(made.train_step(next(made.batches()))) == ["loss", "rpn", "identity"]
    frozen = trainer(tmp_path, detector_rate=0)
    assert list(frozen.train_step(next(frozen.batches()))) == ["loss", "class", "box", "identity"]


def test_curves_have_a_panel_for_validation_only_if_there_was_one(tmp_path: Path) -> None:
    curve = [{"step": 1.0, "loss": 2.0, "class": 0.5}, {"step": 2.0, "loss": 1.0}]  # a resumed run of other losses
    figures = {"step": 2.0, "mAP": 0.5, "top-1": 0.5, "detection AP": 0.5}
    widths = []
    for name, history in (("none.png", []), ("some.png", [figures])):
        plot_curves(curve, history, tmp_path / name)
        picture = cv2.imread(str(tmp_path / name))
        widths.append(picture.shape[1])
        right = picture[:, picture.shape[1] // 2 :]
        assert (right < 100).any(axis=2).mean() > 0.003  # something is drawn there
    assert widths[1] == 2 * widths[0]
    plot_curves([], [], tmp_path / "empty.png")


def test_amp_auto_takes_bf16_only_where_the_processor_computes_in_it(monkeypatch, capsys) -> None:
    cpu = torch.device("cpu")
    for able, expected in ((False, "off"), (True, "bf16")):
        for kind in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, kind, lambda able=able: able)
        amp, why = choose_amp("auto", cpu)
        assert amp == expected
        assert f"amp: {expected}" in why
        assert "\n" not in why
        assert choose_amp("off", cpu) == ("off", "")
        amp, why = choose_amp("bf16", cpu)  # asked for: taken, with a warning where it is slow
        assert amp == "bf16"
        assert bool(why) != able


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"backbone": "resnet50", "rpn": {"kind": "anchors"}}}, "init_resnet=FILE.pth"),
        ({"optimiser": {"detector_rate": 0}}, "init=models/light/weights.pth"),
    ],
)
def test_parts_that_never_learn_do_not_start_from_random_weights_by_accident(
    change: dict, words: str, tmp_path
) -> None:
    config = tiny_config(tmp_path)
    settings = TrainSettings.model_validate(
        {**config, **change, "model": {**config["model"], **change.get("model", {})}}
    )
    network = PersonSearch(settings.model)
    with pytest.raises(CheckpointError, match=words) as caught:
        initialise(network, settings)
    assert "--from-scratch" in str(caught.value)
    assert not initialise(network, settings.model_copy(update={"from_scratch": True}))


def test_imagenet_weights_are_found_by_name_in_torchs_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"resnet50-0676ba61\.pth does not exist.*https://download"):
        imagenet_file("IMAGENET1K_V1")
    cached = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    cached.parent.mkdir(parents=True)
    torch.save(resnet50(weights=None).state_dict(), cached)
    assert imagenet_file("IMAGENET1K_V1") == str(cached)
    config = tiny_config(tmp_path, backbone="resnet50", rpn={"kind": "anchors"}) | {"init_resnet": "IMAGENET1K_V1"}
    settings = TrainSettings.model_validate(config)
    network = PersonSearch(settings.model)
    assert initialise(network, settings)
    assert torch.equal(network.stem.conv1.weight, torch.load(cached, weights_only=True)["conv1.weight"])
    for content, words in ((b"junk", "expected torchvision's resnet50"), (None, "not found")):
        cached.unlink()
        if content is not None:
            cached.write_bytes(content)
            with pytest.raises(CheckpointError, match=words):
                initialise(network, settings)


def test_an_empty_test_split_is_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "people.json").write_text('{"images": [{"file": "a.jpg"}]}')
    config = tiny_config(tmp_path)
    config["data"]["test"] = {"format": "json", "root": str(tmp_path)}
    with pytest.raises(DataError, match="the test split has 0 images and 0 queries"):
        Trainer(TrainSettings.model_validate(config))
    config["data"]["train"], config["data"]["test"] = [config["data"]["test"]], config["data"]["train"][0]
    (tmp_path / "people.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="the training split is empty"):
        Trainer(TrainSettings.model_validate(config))


def test_sampling_depends_on_the_draw_and_not_on_the_batch(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.network.eval()
    (images, targets), *_ = next(made.batches())
    with torch.no_grad():
        whole = made.network.losses(images, targets)[1]
        torch.rand(7)
        parts = [made.network.losses(images[i : i + 1], targets[i : i + 1])[1] for i in range(2)]
    assert torch.equal(whole.labels, torch.cat([p.labels for p in parts]))
    assert torch.allclose(whole.ious, torch.cat([p.ious for p in parts]), atol=1e-5)
