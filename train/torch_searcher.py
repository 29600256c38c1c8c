"""A PyTorch network as a `Searcher`, for evaluation and parity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from personsearch.core.preprocess import Letterbox
from personsearch.core.records import Detections
from personsearch.train.network import PersonSearch


class TorchSearcher:
    def __init__(self, network: PersonSearch, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network.eval(), torch.device(device)
        self.letterbox = Letterbox(*network.canvas)
        self.dimensions = network.settings.identity.dimensions

    def detect(self, images: Sequence[np.ndarray], min_score: float) -> list[Detections]:
        if not images:
            return []
        canvases, scales = zip(*(self.letterbox(image) for image in images), strict=True)
        batch = torch.from_numpy(np.stack(canvases)).to(self.device)
        results = []
        for image, scale, found in zip(images, scales, self.network.search(batch, min_score), strict=True):
            h, w = image.shape[:2]
            boxes = np.clip(found.boxes.cpu().numpy() / scale, 0, [w, h, w, h])
            results.append(Detections(boxes, found.scores.cpu().numpy(), found.embeddings.cpu().numpy()))
        return results

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        canvas, scale = self.letterbox(image)
        batch = torch.from_numpy(canvas[None]).to(self.device)
        rows = torch.from_numpy(np.asarray(boxes, np.float32) * scale).to(self.device)
        return self.network.embed_boxes(batch, [rows]).cpu().numpy()
