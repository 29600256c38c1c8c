"""What every engine is: uint8 letterboxed BGR in, outputs of fixed size out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # boxes, scores, embeddings, count
Sources = Sequence[tuple[np.ndarray, float]]  # frames uint8 (h, w, 3), and canvas pixels per pixel of the frame

Views = Sequence[tuple[np.ndarray, np.ndarray]]  # pictures uint8 (h, w, 3), and a person's box (4,) in each, xyxy


class Engine(Protocol):
    name: str  # backend, device and precision, for logs and reports

    def infer(self, images: np.ndarray, min_proposal_score: float = 0.0, sources: Sources = ()) -> Outputs:
        """uint8 (B, H, W, 3) -> boxes (B, K, 4), scores (B, K), embeddings (B, K, D), count (B,).

        An engine may leave out proposals below `min_proposal_score` (`Manifest.least_proposal_score`), and it may cut
        people out of the `sources` that the images were made of, where they have more pixels.
        """

    def find(self, images: np.ndarray, sources: Sources = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, scores and count alone; for a bundle that describes on demand without the work of describing."""

    def embed(self, images: np.ndarray, boxes: np.ndarray, sources: Sources = ()) -> np.ndarray:
        """uint8 (1, H, W, 3) and (1, E, 4) boxes on the canvas -> (1, E, D); rows of empty boxes mean nothing."""

    def describe(self, views: Views) -> np.ndarray | None:
        """Embeddings (N, D) of people in pictures of any size; None where the engine needs a canvas: see `embed`."""
