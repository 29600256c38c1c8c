"""The static deploy graphs: frames -> people, and frames + boxes -> embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from personsearch.core.bundle import (
    CUT_CROPS,
    CUT_EMBEDDINGS,
    CUT_FEATURE,
    CUT_POOLING,
    CUT_PROPOSALS,
    CUT_REFINED,
    CUT_VECTORS,
)
from personsearch.export.static_ops import gather_rows, nms_static, roi_align_static, roi_weights
from personsearch.train.model.coder import MIN_SIDE, ROI_WEIGHTS, clip_boxes, decode
from personsearch.train.model.csp import CSPStem
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.two_stage import FirstStage

NMS_ROUNDS = 16
ABSENT = -1e4  # stands for minus infinity and survives half precision


class _Graph(nn.Module):
    def __init__(self, network: PersonSearch) -> None:
        super().__init__()
        self.network = network

    def pooling(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """boxes (B, K, 4) -> RoIAlign's weights over columns and rows."""
        roi, stride, (height, width) = self.network.settings.roi, self.network.stem.roi_stride, self.network.canvas
        feature = (math.ceil(height / stride), math.ceil(width / stride))
        return roi_weights(boxes, (roi.height, roi.width), feature, 1.0 / stride)

    def pixels(self, images: Tensor) -> Tensor:
        # Cast before transposing: TensorRT has no uint8 transpose, and OpenVINO is faster this way round. It would
        # turn the two round; the factors, exact powers of two that cancel, keep them where they are.
        return (images.float() * 0.5).permute(0, 3, 1, 2) * 2.0


class DeployGraph(_Graph):
    """images uint8 (B, H, W, 3) BGR -> boxes (B, K, 4), scores (B, K), embeddings (B, K, D), count (B,) int32.

    Rows are ordered by falling score; the first `count` are people, the others padding. Behind the outputs come
    the tensors of `inner`: the writer keeps their names in the graph, so that an engine may run the parts between
    them as graphs of their own (see `core.engine_openvino`).
    """

    def __init__(self, network: PersonSearch) -> None:
        super().__init__(network)
        self.refined = network.settings.roi.embed == "refined" and network.settings.roi.score != "rpn"
        feature = [] if isinstance(network.stem, CSPStem) and network.stem.pixels else [CUT_FEATURE]
        self.ordered = not self.refined and network.settings.roi.score != "rpn"
        last = [CUT_REFINED] if self.refined else [CUT_EMBEDDINGS] if self.ordered else []
        self.inner = (*feature, *CUT_PROPOSALS, *CUT_POOLING, CUT_CROPS, CUT_VECTORS, *last)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pyramid, feature = self.network.stem(self.pixels(images))
        proposals, logits = self.propose(pyramid)
        if self.network.first is not None:
            proposals, logits = self.refine(feature, proposals, logits)
        columns, rows = self.pooling(proposals)
        crops = roi_align_static(feature, columns, rows)
        vectors = self.network.head(crops)
        boxes, scores, count, order = self.detect(vectors, proposals, logits)
        inner = [proposals, logits, columns, rows, crops, vectors]
        if CUT_FEATURE in self.inner:
            inner.insert(0, feature)
        if self.refined:  # pool again, where the people really stand
            vectors = self.network.head(roi_align_static(feature, *self.pooling(boxes)))
            inner.append(vectors)
        embeddings = self.network.embed(vectors).reshape(images.shape[0], -1, self.network.settings.identity.dimensions)
        if self.ordered:
            inner.append(embeddings)
            embeddings = gather_rows(embeddings, order)
        return boxes, scores, embeddings, count, *inner

    def propose(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (B, K, 4) by falling logit (B, K); padding has the logit ABSENT."""
        rpn = self.network.settings.rpn
        logits, boxes = self.network.rpn(pyramid)
        candidates = min(rpn.test_candidates, logits.shape[1])
        logits, order = logits.topk(candidates, dim=1)
        boxes = gather_rows(boxes, order)
        big = ((boxes[..., 2:] - boxes[..., :2]) >= MIN_SIDE).all(-1).to(boxes.dtype)
        keep = nms_static(boxes, big, rpn.nms_iou, NMS_ROUNDS)
        logits, order = torch.where(keep > 0.5, logits, ABSENT).topk(min(rpn.test_proposals, candidates), dim=1)
        return gather_rows(boxes, order), logits

    def refine(self, feature: Tensor, proposals: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals (B, K, 4) and logits (B, K) of the RPN -> those of SeqNet's first stage; padding stays ABSENT."""
        assert self.network.first is not None
        person, deltas = self.network.first(roi_align_static(feature, *self.pooling(proposals)))
        boxes = decode(deltas.reshape(proposals.shape[0], -1, 4), proposals, ROI_WEIGHTS)
        own = FirstStage.score_logit(person).reshape(logits.shape)
        logits = torch.where(logits > ABSENT / 2, own, ABSENT)
        return clip_boxes(boxes, *self.network.canvas), logits

    def detect(self, vectors: Tensor, proposals: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Final boxes, scores, count, and the order of the proposals in them (empty: unchanged)."""
        network, roi = self.network, self.network.settings.roi
        batch, count = logits.shape
        if roi.score == "rpn":
            present = logits > ABSENT / 2
            scores = torch.where(present, torch.sigmoid(logits), 0.0)
            return proposals * present[..., None], scores, present.to(torch.int32).sum(1).to(torch.int32), logits[:, :0]
        if network.first is not None:
            scores = torch.sigmoid(logits)
        else:
            scores = network.person(vectors).softmax(1)[:, 1].reshape(batch, count)
        refined = decode(network.box(vectors).reshape(batch, count, 4), proposals, ROI_WEIGHTS)
        refined = clip_boxes(refined, *network.canvas)
        if roi.score == "fused":
            scores = (scores * torch.sigmoid(logits)).sqrt()
        scores, first = torch.where(logits > ABSENT / 2, scores, -1.0).topk(count, dim=1)
        refined = gather_rows(refined, first)
        keep = nms_static(refined, (scores >= 0).to(refined.dtype), roi.nms_iou, NMS_ROUNDS)
        scores, second = torch.where(keep > 0.5, scores, -1.0).topk(count, dim=1)
        order = first.gather(1, second)
        return gather_rows(refined, second), scores.clamp(min=0.0), keep.sum(1).to(torch.int32), order


class EmbedGraph(_Graph):
    """images uint8 (B, H, W, 3), rois (B, E, 4) on the canvas -> embeddings (B, E, D): enrolment and queries."""

    def forward(self, images: Tensor, rois: Tensor) -> Tensor:
        _, feature = self.network.stem(self.pixels(images))
        vectors = self.network.head(roi_align_static(feature, *self.pooling(rois)))
        return self.network.embed(vectors).reshape(rois.shape[0], rois.shape[1], -1)
