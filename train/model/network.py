"""OIMNet++ as one module: stem -> RPN -> RoIAlign -> identification head -> class, box and embedding (paper Fig. 2)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.train.model.activation import use_hardswish
from personsearch.train.model.anchors import AnchorRPN, random_order
from personsearch.train.model.backbones import BACKBONES, StagedHead, StagedStem, make_staged
from personsearch.train.model.coder import MIN_SIDE, ROI_WEIGHTS, clip_boxes, decode, wide
from personsearch.train.model.csp import CSPHead, CSPStem
from personsearch.train.model.dense import DenseRPN
from personsearch.train.model.detection import detection_losses
from personsearch.train.model.osnet import OmniScaleHead
from personsearch.train.model.protonorm import BACKGROUND, make_norm
from personsearch.train.model.resnet import ResNetHead, ResNetStem
from personsearch.train.model.roi_pooling import pool
from personsearch.train.model.two_stage import FirstStage
from personsearch.train.settings import ModelSettings, RoiSettings
from personsearch.train.vision import box_iou, nms, remove_small_boxes


@dataclass
class Targets:
    """Annotation of one image on the canvas: boxes (n, 4), labels (n,) in 1..L or -1, teacher (n, T) or None.

    `known` (n,) is False where the teacher gave no embedding. `draw` is the number of the draw in the run; it seeds
    the sampling of anchors and RoIs, which so depends neither on the batch nor on the number of processes.
    `replaced` is True where another image stands in for a damaged one. `size` (h, w) is the image's own part of the
    batch's canvas, with model.fit: sides.
    """

    boxes: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    known: Tensor | None = None
    draw: int = 0
    replaced: bool = False
    size: tuple[int, int] | None = None

    def to(self, device: torch.device) -> Targets:
        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@dataclass
class Sampled:
    """The RoIs of a training step, all images after each other: what the identity loss and the LUT need."""

    embeddings: Tensor  # (N, D) L2-normalised
    labels: Tensor  # (N,) 0 background, -1 unlabelled, 1..L
    ious: Tensor  # (N,) of the proposal (not the refined box) with its person
    matched: list[Tensor] = field(default_factory=list)  # per image: index of the person
    counts: list[int] = field(default_factory=list)

    @classmethod
    def nobody(cls, dimensions: int, device: torch.device) -> Sampled:
        """Of a step that samples no RoIs."""
        none = torch.zeros(0, device=device)
        return cls(none.new_zeros(0, dimensions), none.long(), none)


@dataclass
class Found:
    """Detections of one image on the canvas: boxes (n, 4), scores (n,), embeddings (n, D)."""

    boxes: Tensor
    scores: Tensor
    embeddings: Tensor


class PersonSearch(nn.Module):
    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        # With fit: sides, frames have sizes of their own up to this one.
        self.canvas = (settings.width if settings.fit == "sides" else settings.height, settings.width)
        roi, identity = settings.roi, settings.identity
        self.stem: ResNetStem | StagedStem | CSPStem
        self.head: ResNetHead | StagedHead | CSPHead | OmniScaleHead
        if settings.backbone == "resnet50":
            self.stem = ResNetStem(settings.checkpointing)
            self.head = ResNetHead(settings.conv5_protonorm, identity.norm_background, settings.checkpointing)
        elif settings.backbone in BACKBONES:
            self.stem, self.head = make_staged(settings.backbone, settings.checkpointing)
        elif roi.head == "omniscale":
            self.stem = CSPStem(pixels=True)
            self.head = OmniScaleHead((roi.height, roi.width), roi.widths)
        else:
            self.stem = CSPStem()
            self.head = CSPHead(self.stem.roi_channels, roi.widths, roi.depths)
        rpn = AnchorRPN if settings.rpn.kind == "anchors" else DenseRPN
        self.rpn = rpn(self.stem.channels, self.stem.strides, self.canvas, settings.rpn)
        if settings.activation == "hardswish":
            for part in self.detector_parts():
                use_hardswish(part)
        width = self.head.out_channels
        # Before the second stage's own layers are made, so that it starts from the same published weights.
        self.first = FirstStage(copy.deepcopy(self.head)) if roi.two_stages else None
        self.person, self.box = nn.Linear(width, 2), nn.Linear(width, 4)
        self.projection = nn.Linear(width, identity.dimensions, bias=False)
        self.norm = make_norm(identity.norm, identity.dimensions, identity.norm_background)
        for layer, std in ((self.person, 0.01), (self.box, 0.001), (self.projection, 0.01)):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def detector_parts(self) -> list[nn.Module]:
        """What finds people in the light network, filled by published detector weights; empty for other backbones."""
        return [*self.stem.detector_parts(), self.rpn] if isinstance(self.stem, CSPStem) else []

    def train(self, mode: bool = True) -> PersonSearch:
        super().train(mode)
        if mode and self.settings.freeze_norms:
            parts = self.detector_parts() or [self.stem, self.rpn]
            if isinstance(self.head, OmniScaleHead):  # its published norms are fixed affine maps as well
                parts = [*parts, self.head]
            for module in (m for part in parts for m in part.modules()):
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @property
    def rpn_learns(self) -> bool:
        """False with a frozen detector (optimiser.detector_rate: 0)."""
        return any(p.requires_grad for p in self.rpn.parameters())

    def features(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> tuple[list[Tensor], Tensor]:
        """images: uint8 (B, H, W, 3) BGR on the canvas, or with model.fit: sides each of its own (h, w) in it."""
        if sizes is not None:
            pixels = images.to(self.projection.weight.dtype).permute(0, 3, 1, 2)
            return self.stem(pixels, sizes)  # type: ignore[call-arg]
        return self.stem(self.pixels(images))

    def pixels(self, images: Tensor) -> Tensor:
        """Frames uint8 (B, H, W, 3) on the canvas -> (B, 3, H, W) in the weights' type."""
        if images.shape[1:] != (*self.canvas, 3):
            raise ValueError(f"images must be (B, {self.canvas[0]}, {self.canvas[1]}, 3), got {tuple(images.shape)}")
        # As they lie in memory, the frames are channels_last, which convolutions like best.
        return images.to(self.projection.weight.dtype).permute(0, 3, 1, 2)

    def crop(self, feature: Tensor, boxes: list[Tensor]) -> Tensor:
        """RoIAlign (not aligned, sampling ratio 2): boxes per image -> (N, C, h, w)."""
        roi = self.settings.roi
        scale = 1.0 / self.stem.roi_stride
        # In float32 also under autocast: boxes near 1024 px move by a pixel in half precision.
        crops = pool(wide(feature), [b.to(wide(feature).dtype) for b in boxes], (roi.height, roi.width), scale)
        return crops.contiguous(memory_format=torch.channels_last)

    def embed(self, vectors: Tensor, labels: Tensor | None = None) -> Tensor:
        """Projection, normalisation and L2: (N, width) -> (N, D)."""
        projected = wide(self.projection(vectors))  # half precision under autocast
        return functional.normalize(self.norm(projected, labels))

    def losses(self, images: Tensor, targets: list[Targets]) -> tuple[dict[str, Tensor], Sampled]:
        """Detection losses of Eq. 1 by name, and the sampled RoIs for the identity losses."""
        sizes = [t.size for t in targets if t.size is not None] or None
        pyramid, feature = self.features(images, sizes)
        if self.rpn_learns:
            rpn_loss, logits, boxes = self.rpn.losses(pyramid, [t.boxes for t in targets], [t.draw for t in targets])
        else:  # a frozen detector (optimiser.detector_rate: 0) only proposes
            logits, boxes = self.rpn(pyramid)
            rpn_loss = logits.sum() * 0
        with torch.no_grad():
            proposals = [boxes for boxes, _ in self.propose(logits, boxes, sizes, training=True)]
            # With roi.score: rpn the head only recognises people, so it gets no background.
            fill = self.settings.roi.score != "rpn"
            picked = [sample_rois(p, t, self.settings.roi, fill) for p, t in zip(proposals, targets, strict=True)]
        first = []
        if self.first is not None:  # finds and refines; the rest of the step is about where people then stand
            rois, labels = [p[0] for p in picked], torch.cat([p[1] for p in picked])
            person, deltas = self.first(self.crop(feature, rois), labels)
            first = [detection_losses(person, deltas, labels, torch.cat(rois), _owners(picked, targets))]
            refined = self.first.refined(rois, deltas, sizes or [self.canvas] * len(rois))
            picked = [sample_rois(p, t, self.settings.roi, fill) for p, t in zip(refined, targets, strict=True)]
        rois, labels = [p[0] for p in picked], torch.cat([p[1] for p in picked])
        vectors = self.head(self.crop(feature, rois), labels)
        person, deltas = wide(self.person(vectors)), wide(self.box(vectors))
        own = detection_losses(person, deltas, labels, torch.cat(rois), _owners(picked, targets))
        class_loss, box_loss = (torch.stack(parts).sum() for parts in zip(own, *first, strict=True))
        sampled = Sampled(
            self.embed(vectors, labels),
            labels,
            torch.cat([p[2] for p in picked]),
            [p[3] for p in picked],
            [len(r) for r in rois],
        )
        return {"rpn": rpn_loss, "class": class_loss, "box": box_loss}, sampled

    def propose(
        self, logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]] | None, training: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """The RPN's logits (B, M) and boxes (B, M, 4) -> per image the proposals (n, 4) and their scores (n,)."""
        rpn, proposals = self.settings.rpn, []
        candidates = rpn.train_candidates if training else rpn.test_candidates
        most = rpn.train_proposals if training else rpn.test_proposals
        for scores, own, size in zip(logits, boxes, sizes or [self.canvas] * len(logits), strict=True):
            scores, order = scores.topk(min(candidates, len(scores)))
            own = clip_boxes(own[order], *size)
            big = remove_small_boxes(own, MIN_SIDE)
            own, scores = own[big], scores[big]
            keep = nms(own, scores, rpn.nms_iou)[:most]
            proposals.append((own[keep], torch.sigmoid(scores[keep])))
        return proposals

    def refine(
        self, feature: Tensor, proposals: list[tuple[Tensor, Tensor]], sizes: Sequence[tuple[int, int]] | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Proposals and scores of the RPN -> boxes and scores of the first stage, as many and in the same order."""
        assert self.first is not None
        boxes = [own for own, _ in proposals]
        person, deltas = self.first(self.crop(feature, boxes))
        refined = self.first.refined(boxes, deltas, sizes or [self.canvas] * len(boxes))
        scores = torch.sigmoid(self.first.score_logit(person)).split([len(b) for b in boxes])
        return list(zip(refined, scores, strict=True))

    @torch.no_grad()
    def search(
        self, images: Tensor, min_score: float | None = None, sizes: Sequence[tuple[int, int]] | None = None,
        describe: bool = True,
    ) -> list[Found]:  # fmt: skip
        """Detect and embed: images and sizes as for `features` -> one `Found` per image, falling scores.

        describe  False with roi.score: rpn leaves the head out, and the embeddings have width 0
        """
        roi = self.settings.roi
        min_score = roi.min_score if min_score is None else min_score
        pyramid, feature = self.features(images, sizes)
        logits, proposed = self.rpn(pyramid)
        proposals = self.propose(logits, proposed, sizes, training=False)
        if self.first is not None:
            proposals = self.refine(feature, proposals, sizes)
        if roi.score == "rpn":  # the proposals are the detections: the others need no description
            proposals = [(boxes[score >= min_score], score[score >= min_score]) for boxes, score in proposals]
            if not describe:
                return [Found(boxes, score, boxes.new_zeros(len(boxes), 0)) for boxes, score in proposals]
        vectors = self.head(self.crop(feature, [p[0] for p in proposals]))
        scores, deltas, embeddings = self.person(vectors).softmax(1)[:, 1], self.box(vectors), self.embed(vectors)
        found, begin = [], 0
        for (boxes, rpn_scores), size in zip(proposals, sizes or [self.canvas] * len(images), strict=True):
            part = slice(begin, begin := begin + len(boxes))
            if roi.score == "rpn":  # they had their NMS
                found.append(Found(boxes, rpn_scores, embeddings[part]))
                continue
            refined = clip_boxes(decode(deltas[part], boxes, ROI_WEIGHTS), *size)
            score = rpn_scores if self.first is not None else scores[part]
            if roi.score == "fused":
                score = (score * rpn_scores).sqrt()
            keep = torch.nonzero(score >= min_score).flatten()
            keep = keep[nms(refined[keep], score[keep], roi.nms_iou)]
            found.append(Found(refined[keep], score[keep], embeddings[part][keep]))
        if roi.embed == "refined" and roi.score != "rpn":  # pool again, where the people really stand
            again = self.embed(self.head(self.crop(feature, [f.boxes for f in found])))
            for one, rows in zip(found, again.split([len(f.boxes) for f in found]), strict=True):
                one.embeddings = rows
        return found

    @torch.no_grad()
    def embed_boxes(
        self, images: Tensor, boxes: list[Tensor], sizes: Sequence[tuple[int, int]] | None = None
    ) -> Tensor:
        """Embeddings of given boxes (queries, enrolment): per image (n, 4) on the canvas -> (sum of n, D)."""
        if isinstance(self.stem, CSPStem) and self.stem.pixels:  # people are cut out of the frames themselves
            feature = self.pixels(images)
        else:
            _, feature = self.features(images, sizes)
        return self.embed(self.head(self.crop(feature, boxes)))


Picked = tuple[Tensor, Tensor, Tensor, Tensor]  # boxes (n, 4), labels, IoUs, indices of their people


def _owners(picked: list[Picked], targets: list[Targets]) -> Tensor:
    """(N, 4): the person's box of each RoI; where an image has nobody, the RoI itself stands there."""
    return torch.cat([t.boxes[p[3]] if len(t.boxes) else p[0] for p, t in zip(picked, targets, strict=True)])


def sample_rois(proposals: Tensor, targets: Targets, settings: RoiSettings, fill: bool = True) -> Picked:
    """Proposals with the ground truth appended -> sampled boxes, labels, IoUs and indices of their people.

    fill  add background up to `settings.sampled`
    Order is by index, so that an image's ground-truth boxes come last and write the LUT last.
    """
    boxes = torch.cat([proposals, targets.boxes])
    if len(targets.boxes):
        overlap, matched = box_iou(boxes, targets.boxes).max(1)
        labels = torch.where(overlap >= settings.positive_iou, targets.labels[matched], BACKGROUND)
    else:
        overlap, matched = boxes.new_zeros(len(boxes)), torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        labels = torch.full_like(matched, BACKGROUND)
    positive, negative = torch.nonzero(labels != BACKGROUND).flatten(), torch.nonzero(labels == BACKGROUND).flatten()
    take = min(len(positive), int(settings.sampled * settings.positive_share))
    generator = torch.Generator().manual_seed(2 * targets.draw)
    positive = positive[random_order(positive, generator)[:take]]
    room = settings.sampled - take if fill else 0
    negative = negative[random_order(negative, generator)[:room]]
    chosen = torch.cat([positive, negative]).sort().values
    return boxes[chosen], labels[chosen], overlap[chosen], matched[chosen]
