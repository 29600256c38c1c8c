"""The one record that every stage passes on: what was found in an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from personsearch.core.boxes import as_boxes


@dataclass
class Detections:
    """People found in one image.

    boxes       (N, 4) float32, xyxy in pixels of the original image
    scores      (N,)   float32 in [0, 1], falling
    embeddings  (N, D) float32, rows of L2 norm 1
    """

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray

    def __post_init__(self) -> None:
        self.boxes = as_boxes(self.boxes)
        self.scores = np.asarray(self.scores, np.float32).reshape(-1)
        self.embeddings = np.asarray(self.embeddings, np.float32)
        count = len(self.boxes)
        if len(self.scores) != count or self.embeddings.ndim != 2 or len(self.embeddings) != count:
            raise ValueError(
                f"{count} boxes need scores of shape ({count},) and embeddings of shape ({count}, D), "
                f"but got {self.scores.shape} and {self.embeddings.shape}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: np.ndarray | slice) -> Detections:
        return Detections(self.boxes[index], self.scores[index], self.embeddings[index])

    @staticmethod
    def empty(dimensions: int) -> Detections:
        return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, dimensions)))


@dataclass(frozen=True)
class Query:
    """A person to look for: a box in an image of the test set."""

    image: str
    box: np.ndarray  # (4,) xyxy in original pixels
    identity: int


@dataclass
class ImageTruth:
    """What is annotated in one image. `identities` holds -1 for people without a usable identity."""

    name: str
    path: str
    boxes: np.ndarray  # (N, 4) xyxy in original pixels
    identities: np.ndarray  # (N,) int64
    camera: int = 0
