"""A PyTorch network as a `Searcher`, for evaluation and parity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from personsearch.core.records import Detections
from personsearch.train.model.network import PersonSearch
from personsearch.train.sides import Sides, fit_of, padded_batch


class TorchSearcher:
    def __init__(self, network: PersonSearch, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network.eval(), torch.device(device)
        self.fit = fit_of(network.settings)
        self.dimensions = network.settings.identity.dimensions

    def detect(self, images: Sequence[np.ndarray], min_score: float) -> list[Detections]:
        return self._search(images, min_score, describe=True)

    def find(self, images: Sequence[np.ndarray], min_score: float) -> list[Detections]:
        """As `detect`; where the RPN alone says who is a person (roi.score: rpn), the embeddings have width 0."""
        return self._search(images, min_score, describe=False)

    def _search(self, images: Sequence[np.ndarray], min_score: float, describe: bool) -> list[Detections]:
        if not images:
            return []
        if isinstance(self.fit, Sides) and len(images) > 1:  # each alone, so that none is padded for another's size
            return [found for image in images for found in self._search([image], min_score, describe)]
        batch, scales, sizes = self._batch(images)
        results = []
        all_found = self.network.search(batch, min_score, sizes, describe)
        for image, scale, found in zip(images, scales, all_found, strict=True):
            h, w = image.shape[:2]
            boxes = np.clip(found.boxes.cpu().numpy() / scale, 0, [w, h, w, h])
            results.append(Detections(boxes, found.scores.cpu().numpy(), found.embeddings.cpu().numpy()))
        return results

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        batch, (scale,), sizes = self._batch([image])
        rows = torch.from_numpy(np.asarray(boxes, np.float32) * scale).to(self.device)
        return self.network.embed_boxes(batch, [rows], sizes).cpu().numpy()

    def _batch(self, images: Sequence[np.ndarray]) -> tuple[Tensor, list, list[tuple[int, int]] | None]:
        """Frames as the network takes them, what boxes are multiplied by, and sizes if the frames have their own."""
        placed, scales = zip(*(self.fit(image) for image in images), strict=True)
        if isinstance(self.fit, Sides):
            batch, sizes = padded_batch(placed)
            return batch.to(self.device), list(scales), sizes
        return torch.from_numpy(np.stack(placed)).to(self.device), list(scales), None
