"""The static deploy graphs: frames -> people, and frames + boxes -> embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from personsearch.export.static_ops import gather_rows, nms_static, roi_align_static, roi_weights
from personsearch.train.coder import ROI_WEIGHTS, clip_boxes, decode
from personsearch.train.network import SAMPLING_RATIO, PersonSearch

NMS_ROUNDS = 16
ABSENT = -1e4  # stands for minus infinity and survives half precision


class _Graph(nn.Module):
    def __init__(self, network: PersonSearch) -> None:
        super().__init__()
        self.network = network

    def weights(self, feature: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        roi = self.network.settings.roi
        size, (height, width) = (roi.height, roi.width), feature.shape[-2:]
        return roi_weights(boxes, size, (height, width), 1.0 / self.network.stem.roi_stride, SAMPLING_RATIO)

    def features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        # Cast before transposing: TensorRT has no uint8 transpose, and OpenVINO is faster this way round.
        return self.network.stem(images.float().permute(0, 3, 1, 2))


class DeployGraph(_Graph):
    """images uint8 (B, H, W, 3) BGR -> boxes (B, K, 4), scores (B, K), embeddings (B, K, D), count (B,) int32.

    Rows are ordered by falling score; the first `count` are people, the others padding. Behind the outputs
    come the tensors of `core.bundle.CUTS`: the writer keeps their names in the graph, so that an engine may run
    the part before them and the part behind them as two graphs (see `core.engines.OpenVINOEngine`).
    """

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        network = self.network
        rpn, roi = network.settings.rpn, network.settings.roi
        pyramid, feature = self.features(images)
        logits, boxes = network.rpn(pyramid)
        candidates = min(rpn.test_candidates, logits.shape[1])
        logits, order = logits.topk(candidates, dim=1)
        boxes = gather_rows(boxes, order)
        big = ((boxes[..., 2:] - boxes[..., :2]) >= 1.0).all(-1).to(boxes.dtype)
        keep = nms_static(boxes, big, rpn.nms_iou, NMS_ROUNDS)
        count = min(rpn.test_proposals, candidates)
        proposal_logits, order = torch.where(keep > 0.5, logits, ABSENT).topk(count, dim=1)
        boxes = gather_rows(boxes, order)
        columns, rows = self.weights(feature, boxes)
        cuts = (feature, columns, rows, boxes, proposal_logits)

        vectors = network.head(roi_align_static(feature, columns, rows))
        batch = images.shape[0]
        scores = network.person(vectors).softmax(1)[:, 1].reshape(batch, count)
        refined = decode(network.box(vectors).reshape(batch, count, 4), boxes, ROI_WEIGHTS)
        refined = clip_boxes(refined, *network.canvas)
        embeddings = network.embed(vectors).reshape(batch, count, -1)
        if roi.score == "fused":
            scores = (scores * torch.sigmoid(proposal_logits)).sqrt()
        scores, order = torch.where(proposal_logits > ABSENT / 2, scores, -1.0).topk(count, dim=1)
        refined, embeddings = gather_rows(refined, order), gather_rows(embeddings, order)
        present = (scores >= 0).to(boxes.dtype)
        keep = nms_static(refined, present, roi.nms_iou, NMS_ROUNDS)
        scores, order = torch.where(keep > 0.5, scores, -1.0).topk(count, dim=1)
        number = keep.sum(1).to(torch.int32)
        return gather_rows(refined, order), scores.clamp(min=0.0), gather_rows(embeddings, order), number, *cuts


class EmbedGraph(_Graph):
    """images uint8 (B, H, W, 3), rois (B, E, 4) on the canvas -> embeddings (B, E, D): enrolment and queries."""

    def forward(self, images: Tensor, rois: Tensor) -> Tensor:
        _, feature = self.features(images)
        vectors = self.network.head(roi_align_static(feature, *self.weights(feature, rois)))
        return self.network.embed(vectors).reshape(rois.shape[0], rois.shape[1], -1)
