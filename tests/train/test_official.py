"""Released checkpoints, on a state dict synthesised in their layout with torchvision's own modules."""

from pathlib import Path

import pytest
import torch
from conftest import assert_user_error, call, run
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead

from personsearch.core.errors import CheckpointError
from personsearch.train.official import convert, rename
from personsearch.train.weights.checkpoint import load_network


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    """Names and shapes of the released network: backbone, RPN, two copies of conv5, predictors, projector, tables."""
    torch.manual_seed(2)
    state: dict[str, torch.Tensor] = {}

    def add(prefix: str, module: nn.Module) -> None:
        state.update({prefix + k: v.clone() for k, v in module.state_dict().items()})

    net = resnet50(weights=None)
    for name in ("conv1", "bn1", "layer1", "layer2", "layer3"):
        add(f"backbone.{name}.", getattr(net, name))
    rpn = RPNHead(1024, 9).state_dict()
    state |= {f"rpn.head.{k.replace('conv.0.0', 'conv')}": v for k, v in rpn.items()}  # torchvision 0.8's names
    add("roi_heads.reid_head.layer4.", net.layer4)
    state |= {f"roi_heads.box_head.layer4.{k}": v.flip(0) if v.dim() else v for k, v in net.layer4.state_dict().items()}
    add("roi_heads.box_predictor.bbox_cls.", nn.Linear(2048, 2))
    add("roi_heads.box_predictor.bbox_pred.", nn.Linear(2048, 8))
    add("roi_heads.faster_rcnn_predictor.cls_score.", nn.Linear(2048, 2))
    add("roi_heads.faster_rcnn_predictor.bbox_pred.", nn.Linear(2048, 8))
    add("roi_heads.embedding_head.projectors.feat_res5.0.", nn.Linear(2048, 256, bias=False))
    add("roi_heads.embedding_head.projectors.feat_res5.1.", nn.BatchNorm1d(256, affine=False))
    state["roi_heads.reid_loss.lut"] = torch.randn(482, 256).half()
    state["roi_heads.reid_loss.cq"] = torch.randn(500, 256).half()
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2)
    return state


def test_a_released_checkpoint_computes_what_its_modules_compute(released, tmp_path: Path) -> None:
    torch.save({"model": released, "optimizer": {}, "epoch": 19}, tmp_path / "released.pth")
    result = call("train/official.py", tmp_path / "released.pth", "--out", tmp_path / "ours.pth")
    assert result.returncode == 0, result.stderr
    assert "482 identities, queue 500, norm protonorm" in result.stdout
    network, content = load_network(tmp_path / "ours.pth")
    assert torch.equal(content["identity"]["lut"], released["roi_heads.reid_loss.lut"].float())

    with torch.device("meta"):  # weights that are replaced need not be drawn
        conv5 = resnet50(weights=None).layer4.eval()
    prefix = "roi_heads.reid_head.layer4."
    weights = {k.removeprefix(prefix): v for k, v in released.items() if k.startswith(prefix)}
    conv5.load_state_dict(weights, assign=True)
    x = torch.randn(3, 1024, 14, 14)
    projector = "roi_heads.embedding_head.projectors.feat_res5."
    with torch.no_grad():
        vectors = conv5(x).amax((2, 3))
        raw = vectors @ released[f"{projector}0.weight"].t()
        raw = (raw - released[f"{projector}1.running_mean"]) / (released[f"{projector}1.running_var"] + 1e-5).sqrt()
        assert torch.allclose(network.embed(network.head(x)), nn.functional.normalize(raw), atol=1e-5)
        deltas = vectors @ released["roi_heads.box_predictor.bbox_pred.weight"].t()
        deltas = deltas + released["roi_heads.box_predictor.bbox_pred.bias"]
        assert torch.allclose(network.box(vectors), deltas[:, 4:], atol=1e-5)


def test_anchors_are_those_of_the_released_network() -> None:
    from personsearch.train.model.anchors import AnchorRPN
    from personsearch.train.settings import RpnSettings

    ours = AnchorRPN((1024,), (16,), (900, 1500), RpnSettings(kind="anchors"))
    theirs = AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),))
    assert torch.equal(ours.base, theirs.cell_anchors[0])


def test_every_key_is_accounted_for(released, tmp_path: Path) -> None:
    ours, tables = rename(released, "x")
    unused = [k for k in released if "box_head" in k or "faster_rcnn_predictor" in k]
    assert len(ours) + len(tables) + len(unused) == len(released)
    with pytest.raises(CheckpointError, match=r"1 keys are unknown \['roi_heads.extra'\]"):
        rename({**released, "roi_heads.extra": torch.zeros(1)}, "x")
    with pytest.raises(CheckpointError, match=r"reid_loss\.cq"):
        rename({k: v for k, v in released.items() if not k.endswith("cq")}, "x")
    shapes = {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in released.items()}  # 180 MB less a file
    for missing in ("backbone.layer3.5.bn3.running_var", "rpn.head.conv.bias"):
        torch.save({"model": {k: v for k, v in shapes.items() if k != missing}}, tmp_path / "cut.pth")
        with pytest.raises(CheckpointError, match=r"cut\.pth: .*1 missing"):
            convert(tmp_path / "cut.pth")
    assert_user_error(call("train/official.py", tmp_path / "none.pth", "--out", tmp_path / "no.pth"), "not found")
    assert not (tmp_path / "no.pth").exists()
    assert_user_error(run("train/official.py", tmp_path / "none.pth"), "--out")  # started for real
