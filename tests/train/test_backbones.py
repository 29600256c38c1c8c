"""ConvNeXt and Swin as backbones, and SeqNet's two stages: torchvision's own networks, in small."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from conftest import tiny_config
from safetensors.torch import save_file
from torchvision.models import ConvNeXt, SwinTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.ops import StochasticDepth

from personsearch.core.config import load_settings
from personsearch.core.errors import CheckpointError
from personsearch.core.resources import shipped
from personsearch.export.deploy import DeployGraph
from personsearch.export.fold import fold
from personsearch.export.onnx_writer import write_onnx
from personsearch.train.loop.trainer import Trainer
from personsearch.train.model.backbones import BACKBONES
from personsearch.train.model.network import PersonSearch, Targets
from personsearch.train.settings import ModelSettings, TrainSettings
from personsearch.train.weights.initial_weights import initialise

SMALL = {
    "convnext_tiny": lambda: ConvNeXt(
        [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 2), CNBlockConfig(32, None, 1)],
        layer_scale=0.5,
    ),
    # Two blocks a stage: every second one attends over shifted windows.
    "swin_s": lambda: SwinTransformer([4, 4], 12, [2, 2, 2, 2], [1, 2, 2, 4], [7, 7]),
}  # fmt: skip
SMALL["convnext_base"] = SMALL["convnext_tiny"]


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    for name, make in SMALL.items():
        monkeypatch.setitem(BACKBONES, name, make)


def model_of(backbone: str, two_stages: bool = True, **model: object) -> dict:
    if backbone == "csp_nano":  # two stages with the light network's residual head
        small = tiny_config(Path("unused"))["model"]
        return {**small, "roi": {**small["roi"], "min_score": 0.3, "two_stages": two_stages}, **model}
    return {
        "backbone": backbone,
        "height": 96,
        "width": 160,
        "rpn": {"kind": "anchors", "anchor_sizes": [24, 48], "train_proposals": 30, "test_proposals": 8},
        "roi": {"height": 14, "width": 14, "sampled": 16, "min_score": 0.3, "two_stages": two_stages},
        "identity": {"dimensions": 16, "queue": 10},
        **model,
    }


def network_of(backbone: str, two_stages: bool = True) -> PersonSearch:
    """With scores and boxes that differ from RoI to RoI."""
    torch.manual_seed(4)
    network = PersonSearch(ModelSettings.model_validate(model_of(backbone, two_stages)))
    lively = ("person.", "box.", "first.person.", "first.box.", "projection.", "rpn.obj", "rpn.del", "rpn.person")
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.startswith(lively):
                value.normal_(0, 0.3)
        network.norm.running_mean.normal_()  # type: ignore[union-attr]
    return network.eval()


@pytest.mark.parametrize(
    ("backbone", "two_stages", "checkpointing"), [("convnext_tiny", True, False), ("swin_s", False, True)]
)
def test_one_step_reaches_every_part(tmp_path: Path, backbone: str, two_stages: bool, checkpointing: bool) -> None:
    config = tiny_config(tmp_path) | {"model": model_of(backbone, two_stages, checkpointing=checkpointing)}
    trainer = Trainer(TrainSettings.model_validate({**config, "device": "cpu", "from_scratch": True}))
    trainer.network.train()
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    batches = trainer.batches()
    trainer.train_step(next(batches))  # the look-up table is empty, so nothing pulls the embeddings yet
    losses = trainer.train_step(next(batches))
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())
    still = [n for n, p in trainer.network.named_parameters() if torch.equal(before[n], p)]
    assert still == []
    assert float(trainer.identity.lut.abs().sum()) > 0
    assert any(name.startswith("first.") for name in before) == two_stages


@pytest.mark.parametrize("backbone", ["convnext_tiny", "csp_nano"])
def test_images_without_people_pass_through_both_stages(backbone: str) -> None:
    network = network_of(backbone).train()
    images = torch.randint(0, 255, (2, 96, 160, 3), dtype=torch.uint8)
    nobody = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    somebody = Targets(torch.tensor([[10.0, 10, 40, 90]]), torch.tensor([3]))
    for targets in ([nobody, nobody], [nobody, somebody]):
        losses, sampled = network.losses(images, targets)
        assert all(torch.isfinite(value) for value in losses.values())
        assert len(sampled.labels) == sum(sampled.counts)
    assert (sampled.labels == 3).any()


def test_the_embedding_is_learned_on_refined_boxes() -> None:
    network = network_of("convnext_tiny").train()
    assert network.first is not None
    with torch.no_grad():  # each box moves by a tenth of its width
        network.first.box.weight.zero_()
        network.first.box.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
    images = torch.zeros(1, 96, 160, 3, dtype=torch.uint8)
    targets = [Targets(torch.tensor([[40.0, 10, 80, 90]]), torch.tensor([2]))]
    _, sampled = network.losses(images, targets)
    ious = sampled.ious[sampled.labels == 2].tolist()
    assert max(ious) == 1.0  # the ground truth itself
    moved = 0.9 / 1.1  # the ground truth of the first stage, moved
    assert any(iou == pytest.approx(moved, abs=1e-5) for iou in ious)
    plain = network_of("convnext_tiny", two_stages=False).train()
    assert not any(i == pytest.approx(moved, abs=1e-5) for i in plain.losses(images, targets)[1].ious.tolist())


def test_people_are_scored_by_the_first_stage_and_placed_by_the_second() -> None:
    network = network_of("swin_s")
    assert network.first is not None
    images = torch.randint(0, 255, (1, 96, 160, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        network.first.person.weight.zero_()
        network.first.person.bias.copy_(torch.tensor([0.0, 2.0]))
    (found,) = network.search(images, 0.3)
    assert len(found.boxes) > 0
    assert found.scores.tolist() == pytest.approx([torch.sigmoid(torch.tensor(2.0)).item()] * len(found.scores))
    with torch.no_grad():
        network.box.weight.zero_()
        network.box.bias.zero_()
    (unmoved,) = network.search(images, 0.3)
    pyramid, feature = network.features(images)
    with torch.no_grad():
        proposals = network.propose(*network.rpn(pyramid), None, training=False)
        (boxes, _), *_ = network.refine(feature, proposals, None)
    assert all(any(torch.allclose(box, own, atol=1e-3) for own in boxes) for box in unmoved.boxes)


@pytest.mark.parametrize("backbone", ["convnext_tiny", "swin_s", "csp_nano"])
def test_the_static_graph_finds_what_the_network_finds(tmp_path: Path, backbone: str) -> None:
    """In PyTorch for all; Swin's, whose windows are rolled, padded and masked, in ONNX Runtime too."""
    network = network_of(backbone)
    images = torch.randint(0, 255, (1, 96, 160, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    (expected,) = network.search(images, 0.0)
    graph = DeployGraph(fold(network)).eval()
    with torch.no_grad():
        outputs = [value.numpy() for value in graph(images)[:4]]
    results = [outputs]
    kinds = None
    if backbone == "swin_s":
        names = ["boxes", "scores", "embeddings", "count"]
        path = tmp_path / "model.onnx"
        write_onnx(graph, (images,), path, input_names=["images"], output_names=names, inner_names=graph.inner)
        kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        results.append(session.run(names, {"images": images.numpy()}))
    else:  # what would leave the static graph shows in the trace
        kinds = {node.kind() for node in torch.jit.trace(graph, (images,), check_trace=False).inlined_graph.nodes()}
    assert not kinds & {"If", "Loop", "NonZero", "NonMaxSuppression", "prim::If", "prim::Loop", "aten::nonzero"}
    assert len(expected.boxes) > 2
    for boxes, scores, embeddings, count in results:
        assert int(count[0]) == len(expected.boxes)
        rows = slice(0, len(expected.boxes))
        assert torch.allclose(torch.from_numpy(boxes[0, rows]), expected.boxes, atol=2e-2)
        assert torch.allclose(torch.from_numpy(scores[0, rows]), expected.scores, atol=1e-4)
        assert torch.allclose(torch.from_numpy(embeddings[0, rows]), expected.embeddings, atol=1e-3)


@pytest.mark.parametrize("backbone", ["convnext_tiny", "swin_s"])
def test_published_weights_fit_by_file_and_compute_the_same(tmp_path: Path, backbone: str) -> None:
    torch.manual_seed(6)
    published = SMALL[backbone]().eval()
    torch.save(published.state_dict(), tmp_path / "w.pth")
    save_file(published.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        config = tiny_config(tmp_path) | {"model": model_of(backbone), "init_backbone": str(tmp_path / name)}
        settings = TrainSettings.model_validate(config)
        network = PersonSearch(settings.model).eval()
        assert initialise(network, settings)
        images = torch.rand(1, 3, 96, 160) * 255
        with torch.no_grad():
            whole = published.features(network.stem.pixels(images))  # type: ignore[union-attr]
            _, feature = network.stem(images)
            if backbone == "swin_s":
                expected = published.norm(whole).amax((1, 2))
            else:
                expected = published.classifier[0](whole).amax((2, 3))
            assert network.first is not None
            for head in (network.head, network.first.head):
                assert torch.allclose(head(feature), expected, atol=1e-5)
        assert network.stem.rpn_norm.weight.tolist() == [1.0] * network.stem.roi_channels  # type: ignore[union-attr]


def test_weights_of_another_network_and_none_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(words: str, **change: object) -> None:
        settings = TrainSettings.model_validate(tiny_config(tmp_path) | {"model": model_of("swin_s")} | change)
        with pytest.raises(CheckpointError, match=words) as caught:
            initialise(PersonSearch(settings.model), settings)
        assert "\n" not in str(caught.value)

    state = SMALL["swin_s"]().state_dict()
    torch.save(SMALL["convnext_tiny"]().state_dict(), tmp_path / "other.pth")
    refused("expected torchvision's swin_s weights, but features", init_backbone=str(tmp_path / "other.pth"))
    torch.save({**state, "layers.0.weight": torch.zeros(1)}, tmp_path / "more.pth")
    refused("unexpected weights.*is this a swin_s", init_backbone=str(tmp_path / "more.pth"))
    torch.save(state | {"features.1.0.norm1.weight": torch.full((12,), float("nan"))}, tmp_path / "nan.pth")
    refused("not finite", init_backbone=str(tmp_path / "nan.pth"))
    refused("not found", init_backbone=str(tmp_path / "none.pth"))
    refused("init_backbone=FILE.*--from-scratch")
    light = {"model": tiny_config(tmp_path)["model"], "init_backbone": "x.pth"}
    refused("init_backbone needs model.backbone: convnext_tiny", **light)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 100}, "multiples of 32"),
        ({"conv5_protonorm": True}, "conv5_protonorm needs backbone resnet50"),
        ({"roi": {"two_stages": True, "score": "rpn"}}, "two_stages needs roi.score: head"),
        ({"roi": {"two_stages": True, "embed": "refined"}}, "two_stages needs"),
        ({"fit": "sides", "rpn": {"kind": "dense"}}, "fit: sides needs rpn.kind anchors"),
    ],
)
def test_settings_that_do_not_go_together_are_named(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelSettings.model_validate(model_of("convnext_tiny") | change)
    sides = {"fit": "sides", "height": 90, "width": 150}
    assert ModelSettings.model_validate(model_of("convnext_tiny") | sides).fit == "sides"


def test_the_strong_preset_builds_the_published_sizes(monkeypatch) -> None:
    monkeypatch.undo()
    settings = load_settings(shipped("configs/strong.yaml"), TrainSettings)
    widths = {"convnext_base": (512, 1024), "convnext_tiny": (384, 768), "swin_s": (384, 768)}
    for backbone, expected in widths.items():
        model = settings.model.model_copy(update={"backbone": backbone})
        with torch.device("meta"):  # without weights: nothing is drawn or kept
            network = PersonSearch(model)
        assert (network.stem.roi_channels, network.head.out_channels) == expected
        assert network.first is not None
        assert {part.p for part in network.modules() if isinstance(part, StochasticDepth)} == {0.0}
    assert settings.model.backbone == "convnext_base"
    assert settings.optimiser.ema > 0
