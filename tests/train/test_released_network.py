"""configs/official.yaml against the released network, put together anew from torchvision's detection parts.

Only the random choices of anchors and RoIs are ours, so that both choose the same; everything runs in float64.
"""

from collections import OrderedDict
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import MultiScaleRoIAlign, box_iou, clip_boxes_to_image, nms

from personsearch.core.config import load_settings
from personsearch.core.street.street import Street, StreetSettings
from personsearch.train.model.anchors import _sample, random_order
from personsearch.train.model.network import PersonSearch, Targets
from personsearch.train.model.oim import OIMLoss
from personsearch.train.official import rename
from personsearch.train.settings import TrainSettings
from personsearch.train.sides import Sides, padded_batch

UNLABELLED = 5555  # as the released code writes it
SHORT, LONG, PEOPLE = 120, 200, 6
SAMPLED, PROPOSALS = 8, 12  # fewer RoIs than the preset's 128 and 300: conv5 is what takes the time


def shallow(weights: None = None) -> ResNet:
    """ResNet-50 with fewer blocks; conv5, whose blocks our head walks through itself, keeps one of each kind."""
    return ResNet(Bottleneck, [1, 1, 2, 2])


class Prototypes(nn.Module):
    """The released code's normalisation before L2: one prototype per identity, the background one too."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            return (x - self.running_mean) / (self.running_var + 1e-5).sqrt()
        prototypes = [row for row, label in zip(x, labels, strict=True) if label == UNLABELLED]
        prototypes += [x[labels == label].mean(0) for label in labels.unique() if label != UNLABELLED]
        mean = torch.stack(prototypes).mean(0)
        return (x - mean) / (((x - mean) ** 2).mean(0) + 1e-5).sqrt()


class Chosen:
    """torchvision's sampler with our draws instead of its own."""

    def __init__(self, choose) -> None:
        self.choose = choose

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positive, negative = [], []
        for draw, own in enumerate(labels):
            mask = torch.zeros(len(own), dtype=torch.bool)
            mask[self.choose(own, draw)] = True
            positive.append(mask & (own >= 1))
            negative.append(mask & (own == 0))
        return positive, negative


def our_rois(labels: Tensor, draw: int) -> Tensor:
    generator = torch.Generator().manual_seed(2 * draw)
    positive, negative = torch.nonzero(labels >= 1).flatten(), torch.nonzero(labels == 0).flatten()
    positive = positive[random_order(positive, generator)[: SAMPLED // 2]]
    return torch.cat([positive, negative[random_order(negative, generator)[: SAMPLED - len(positive)]]])


class Released(nn.Module):
    """Names of the parameters are those of the released state dict."""

    def __init__(self, identities: int, queue: int) -> None:
        super().__init__()
        net = shallow()
        self.backbone = nn.Sequential(
            OrderedDict((n, getattr(net, n)) for n in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"))
        )
        counts = {"training": 12000, "testing": 6000}, {"training": 2000, "testing": PROPOSALS}
        anchors = AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),))
        self.rpn = RegionProposalNetwork(anchors, RPNHead(1024, 9), 0.7, 0.3, 256, 0.5, *counts, 0.7)
        self.rpn.fg_bg_sampler = Chosen(
            lambda labels, draw: _sample(labels.long(), torch.Generator().manual_seed(2 * draw + 1))
        )
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(["feat"], 14, 2),
            nn.Identity(),
            nn.Identity(),
            0.5,
            0.5,
            SAMPLED,
            0.5,
            None,
            0.5,
            0.4,
            300,
        )
        self.roi_heads.fg_bg_sampler = Chosen(our_rois)
        self.roi_heads.reid_head = nn.Sequential(OrderedDict(layer4=net.layer4))
        self.roi_heads.box_predictor = nn.ModuleDict({"bbox_cls": nn.Linear(2048, 2), "bbox_pred": nn.Linear(2048, 8)})
        self.roi_heads.embedding_head = nn.Module()
        projector = nn.Sequential(nn.Linear(2048, 256, bias=False), Prototypes(256))
        self.roi_heads.embedding_head.projectors = nn.ModuleDict({"feat_res5": projector})
        self.roi_heads.reid_loss = nn.Module()
        self.roi_heads.reid_loss.register_buffer("lut", functional.normalize(torch.randn(identities, 256)))
        self.roi_heads.reid_loss.register_buffer("cq", functional.normalize(torch.randn(queue, 256)))
        self.transform = GeneralizedRCNNTransform(SHORT, LONG, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        for parameter in (net.conv1.weight, net.bn1.weight, net.bn1.bias):
            parameter.requires_grad_(False)

    def heads(self, features, rois, sizes, labels=None) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.roi_heads
        vectors = functional.adaptive_max_pool2d(heads.reid_head(heads.box_roi_pool(features, rois, sizes)), 1).flatten(
            1
        )
        linear, norm = heads.embedding_head.projectors["feat_res5"]
        embeddings = functional.normalize(norm(linear(vectors), labels))
        return heads.box_predictor["bbox_cls"](vectors), heads.box_predictor["bbox_pred"](vectors), embeddings

    def losses(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch, targets = self.transform(images, targets)
        features = {"feat": self.backbone(batch.tensors)}
        proposals, rpn = self.rpn(batch, features, targets)
        rois, _, labels, goals = self.roi_heads.select_training_samples(proposals, targets)
        every = torch.cat(labels)
        logits, deltas, embeddings = self.heads(features, rois, batch.image_sizes, every)
        people = torch.nonzero(every > 0).flatten()
        box = functional.smooth_l1_loss(deltas[people, 4:], torch.cat(goals)[people], reduction="sum") / len(every)
        table = torch.cat([self.roi_heads.reid_loss.lut, self.roi_heads.reid_loss.cq])
        identity = functional.cross_entropy(
            30.0 * embeddings[people] @ table.t(), every[people] - 1, ignore_index=UNLABELLED - 1
        )
        self.seen = (
            rois,
            every,
            embeddings,
            torch.cat([box_iou(r, t["boxes"]).amax(1) for r, t in zip(rois, targets, strict=True)]),
        )
        return {
            "rpn": rpn["loss_objectness"] + rpn["loss_rpn_box_reg"],
            "class": functional.cross_entropy(logits, every.clamp(0, 1)), "box": box, "identity": identity,
        }  # fmt: skip

    @torch.no_grad()
    def search(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, _ = self.transform([image], None)
        features = {"feat": self.backbone(batch.tensors)}
        rois, _ = self.rpn(batch, features)
        logits, deltas, embeddings = self.heads(features, rois, batch.image_sizes)
        boxes = clip_boxes_to_image(self.roi_heads.box_coder.decode(deltas, rois)[:, 1], batch.image_sizes[0])
        scores = logits.softmax(1)[:, 1]
        keep = nms(boxes, scores, 0.4)[:300]
        (result,) = self.transform.postprocess(
            [{"boxes": boxes[keep]}], batch.image_sizes, [(image.shape[1], image.shape[2])]
        )
        return result["boxes"], scores[keep], embeddings[keep]


@pytest.fixture(scope="module")
def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    """A landscape and a portrait frame at the sizes that both networks resize them to, with people's boxes."""
    street, out = Street(StreetSettings(seed=5, people=PEOPLE, identities=20, cameras=2)), []
    for camera, (height, width) in enumerate(((112, 200), (160, 120))):
        frame = street.frame(camera, 20)
        image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
        factors = np.array([width / frame.image.shape[1], height / frame.image.shape[0]] * 2)
        out.append((image, frame.boxes * factors))
    return out


def both(seed: int) -> tuple[Released, PersonSearch, TrainSettings]:
    torch.manual_seed(seed)
    overrides = [f"model.height={SHORT}", f"model.width={LONG}", "model.identity.queue=7"]
    overrides += [f"model.roi.sampled={SAMPLED}", f"model.rpn.test_proposals={PROPOSALS}"]
    settings = load_settings(REPOSITORY / "configs" / "official.yaml", TrainSettings, overrides)
    released = Released(11, 7)
    with torch.no_grad():  # a network that says something: lively scores, boxes that differ, some of them very thin
        released.rpn.head.cls_logits.weight.normal_(0, 0.3)
        released.rpn.head.bbox_pred.weight.normal_(0, 0.3)
        for layer in released.roi_heads.box_predictor.values():
            layer.weight.normal_(0, 0.01)
    with patch("torchvision.models.resnet50", shallow):
        ours = PersonSearch(settings.model)
    state, _ = rename({k: v for k, v in released.state_dict().items() if not k.startswith("transform")}, "released")
    ours.load_state_dict(state)
    released, ours = released.double(), ours.double()
    for name in ("mean", "std"):  # in float32 they differ from the released code's in the eighth digit
        constants = torch.tensor(getattr(released.transform, f"image_{name}"), dtype=torch.float64)
        getattr(ours.stem.pixels, name).copy_(255 * constants.view(1, 3, 1, 1))
    return released, ours, settings


def as_released(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1).double() / 255


def test_losses_sampled_rois_and_every_gradient_equal_the_released_networks(frames) -> None:
    released, ours, settings = both(0)
    released.train(), ours.train()
    labels = [torch.tensor([3, UNLABELLED, 5, 1, UNLABELLED, 11][: len(boxes)]) for _, boxes in frames]
    boxes = [torch.from_numpy(boxes[: len(own)]).double() for (_, boxes), own in zip(frames, labels, strict=True)]
    expected = released.losses(
        [as_released(image) for image, _ in frames],
        [{"boxes": b, "labels": own} for b, own in zip(boxes, labels, strict=True)],
    )
    batch, sizes = padded_batch([image for image, _ in frames])
    targets = [
        Targets(b, torch.where(own == UNLABELLED, -1, own), draw=draw, size=size)
        for draw, (b, own, size) in enumerate(zip(boxes, labels, sizes, strict=True))
    ]
    losses, sampled = ours.losses(batch, targets)
    rois, every, embeddings, ious = released.seen
    thin = torch.cat([(r[:, 2:] - r[:, :2]).amin(1) for r in rois])
    assert int((thin < 1.0).sum()) > 1  # thin proposals take part, as they do there
    assert torch.equal(sampled.labels, torch.where(every == UNLABELLED, -1, every))
    assert torch.allclose(sampled.ious, ious, atol=1e-12)
    assert torch.allclose(sampled.embeddings, embeddings, atol=1e-9)
    oim = OIMLoss(11, 7, 256, temperature=settings.model.identity.temperature).double()
    oim.lut.copy_(released.roi_heads.reid_loss.lut)
    oim.queue.copy_(released.roi_heads.reid_loss.cq)
    losses["identity"] = oim(sampled.embeddings, sampled.labels)
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(float(value.detach()), rel=1e-7), name
    weights = {"rpn": 1.0, "class": 1.0, "box": settings.loss.box, "identity": 1.0}
    sum(weights[k] * v for k, v in expected.items()).backward()
    sum(weights[k] * v for k, v in losses.items()).backward()
    gradients = {k: p.grad for k, p in released.named_parameters() if p.grad is not None}
    theirs, _ = rename(
        gradients | {k: torch.zeros(1) for k in ("roi_heads.reid_loss.lut", "roi_heads.reid_loss.cq")}, "x"
    )
    own = {k: p.grad for k, p in ours.named_parameters() if p.grad is not None}
    assert own.keys() == theirs.keys()
    worst = {k: float((own[k] - g).norm() / g.norm().clamp(min=1e-12)) for k, g in theirs.items()}
    assert max(worst.values()) < 1e-6, sorted(worst.items(), key=lambda item: -item[1])[:5]


def test_boxes_scores_and_embeddings_equal_the_released_networks(frames) -> None:
    released, ours, _ = both(1)
    released.eval(), ours.eval()
    for image, _ in frames:
        boxes, scores, embeddings = released.search(as_released(image))
        batch, sizes = padded_batch([image])
        (found,) = ours.search(batch, 0.0, sizes)
        assert len(found.boxes) == len(boxes) > 5
        assert torch.allclose(found.scores, scores, atol=1e-9)
        assert torch.allclose(found.boxes, boxes, atol=1e-6)
        assert torch.allclose(found.embeddings, embeddings, atol=1e-9)


@pytest.mark.parametrize(
    ("width", "height"), [(600, 800), (1920, 1080), (1080, 1920), (1500, 900), (640, 480), (333, 777), (4000, 300)]
)
def test_frames_get_the_released_size_whichever_way_round_they_lie(width: int, height: int) -> None:
    transform = GeneralizedRCNNTransform(900, 1500, [0.0] * 3, [1.0] * 3)
    box = torch.tensor([[10.0, 20.0, 110.0, 260.0]])
    batch, (target,) = transform([torch.zeros(3, height, width)], [{"boxes": box}])
    frame, factors = Sides(900, 1500)(np.zeros((height, width, 3), np.uint8))
    assert frame.shape[:2] == batch.image_sizes[0]
    assert padded_batch([frame])[0].shape[1:3] == batch.tensors.shape[2:]
    assert np.allclose(box.numpy() * factors, target["boxes"].numpy(), atol=1e-3)


def test_a_portrait_frame_is_not_made_smaller_than_the_released_code_makes_it() -> None:
    assert Sides(900, 1500).size(800, 600) == (1200, 900)
