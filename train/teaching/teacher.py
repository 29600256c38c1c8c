"""Teachers for distillation, on the CPU: re-identification networks as OpenVINO (.xml) or ONNX files, or bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.core.bundle import read_manifest
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import DataError
from personsearch.core.openvino_core import openvino_core
from personsearch.train.weights.openvino_file import read_network


class Teacher(Protocol):
    """Says what people look like. It travels to data-loading processes, so it loads its engine on first use."""

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) BGR and (N, 4) xyxy -> (N, T) float32, not necessarily normalised."""


def load_teacher(path: str) -> Teacher:
    """A file is a re-identification network, a folder a bundle. Raises DataError or BundleError."""
    return BundleTeacher(path) if Path(path).is_dir() else EmbeddingTeacher(path)


class _LoadsLate:
    """Everything of a teacher travels to other processes but its engine."""

    _engine: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_engine": None}


class BundleTeacher(_LoadsLate):
    """The embeddings of a bundle: what a network should go on saying while it learns something new."""

    def __init__(self, path: str) -> None:
        read_manifest(path)
        self.path = path

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        if self._engine is None:
            self._engine = BundleSearcher(self.path, threads=1)
        embeddings: np.ndarray = self._engine.embed(image, boxes)
        return embeddings


class EmbeddingTeacher(_LoadsLate):
    """Embeds person crops with a file that takes (1, 3, h, w) BGR 0..255 and gives (1, T)."""

    def __init__(self, path: str, options: dict[str, Any] | None = None) -> None:
        model = read_network(path, "a teacher: an .xml or .onnx file, or a bundle's folder", DataError)
        shapes = [port.get_partial_shape() for port in (*model.inputs, *model.outputs)]
        if [s.rank.get_length() for s in shapes if s.rank.is_static] != [4, 2] or any(s.is_dynamic for s in shapes):
            given = " -> ".join(map(str, shapes))
            raise DataError(f"{path}: expected a network (1, 3, h, w) -> (1, T), got {given}")
        self.path = path
        self.options = options or {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}  # OpenVINO's

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        if self._engine is None:
            core = openvino_core()
            self._engine = core.compile_model(core.read_model(self.path), "CPU", self.options)
        _, _, height, width = self._engine.input(0).shape
        out = np.zeros((len(boxes), self._engine.output(0).shape[1]), np.float32)
        for row, box in enumerate(boxes):
            x1, y1 = np.maximum(box[:2], 0).astype(int)
            x2, y2 = np.ceil(box[2:]).astype(int)
            crop = image[y1 : max(y1 + 1, y2), x1 : max(x1 + 1, x2)]
            if crop.size == 0:
                crop = np.zeros((2, 1, 3), np.uint8)
            how = cv2.INTER_AREA if crop.shape[0] > height else cv2.INTER_LINEAR
            blob = cv2.resize(crop, (width, height), interpolation=how).transpose(2, 0, 1)[None]
            out[row] = self._engine([blob.astype(np.float32)])[0][0]
        return out


class TeacherSpace(nn.Module):
    """Compares the student with teacher embeddings that went through the same kind of normalisation as its own:
    ProtoNorm leaves no mean and unit variance in each dimension, so the teacher's are standardised too.

    Mean and variance are slow running averages over all teacher embeddings seen.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, dimensions: int, direction: float = 1.0, structure: float = 4.0) -> None:
        super().__init__()
        self.direction, self.structure = direction, structure
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("variance", torch.ones(dimensions))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def target(self, teacher: Tensor) -> Tensor:
        """Raw teacher embeddings (N, D) -> what the student should say, (N, D) with rows of L2 norm 1."""
        if teacher.shape[1:] != self.mean.shape:
            raise DataError(
                f"the teacher gives {teacher.shape[1]} numbers a person, but model.identity.dimensions is "
                f"{len(self.mean)}; they must be the same"
            )
        teacher = functional.normalize(teacher.float())
        if self.training and len(teacher) > 1:
            self.seen.add_(1)
            rate = max(0.005, 1.0 / float(self.seen))
            self.mean.lerp_(teacher.mean(0), rate)
            self.variance.lerp_((teacher - self.mean).square().mean(0), rate)
        return functional.normalize((teacher - self.mean) * torch.rsqrt(self.variance + 1e-8))

    def forward(self, student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
        """student (N, D) L2-normalised, teacher (N, D) raw, weights (N,) >= 0 -> scalar loss.

        Direction: 1 - cosine, weighted by the proposal's IoU (a badly cut person should count less, as in
        LOIM); only for a teacher whose space the student starts in, or from nothing. Structure: squared differences
        of all pairwise similarities; for any teacher.
        """
        target = self.target(teacher)
        if len(student) == 0:
            return student.sum() * 0
        student = student.float()
        pair_weight = weights[:, None] * weights[None]
        structure = (pair_weight * (student @ student.t() - target @ target.t()).square()).sum() / pair_weight.sum()
        loss = self.structure * structure
        if self.direction:
            cosine = (student * target).sum(1)
            loss = loss + self.direction * (weights * (1 - cosine)).sum() / weights.sum().clamp(min=1e-6)
        return loss
