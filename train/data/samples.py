"""Training samples: sources of annotated frames -> augmented canvases with boxes, labels and teacher embeddings."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from personsearch.core.boxes import clip
from personsearch.core.errors import DataError
from personsearch.core.pictures import read_picture
from personsearch.core.preprocess import Letterbox
from personsearch.core.records import ImageTruth
from personsearch.train.data import augment, composition, cuhk, json_data, prw
from personsearch.train.data.prw import SearchData
from personsearch.train.data.street_data import StreetImages, street_split
from personsearch.train.model.network import Targets
from personsearch.train.settings import DataSettings, SourceSettings
from personsearch.train.sides import Sides, padded_batch
from personsearch.train.teaching.teacher import Teacher

MOST_DAMAGED = 20  # images in a row


def load_split(source: SourceSettings, split: str) -> SearchData:
    """The `train` or `test` part of a source; frames of the street are drawn when they are read."""
    if source.format == "street":
        return street_split(source, split)
    tree = {"prw": prw.TREE, "cuhk": cuhk.TREE, "json": json_data.TREE}[source.format]
    if not source.root:
        raise DataError(f"a source of format '{source.format}' needs `root`: the folder of the data set; {tree}")
    if not Path(source.root).is_dir():
        raise DataError(f"{source.root}: no such folder; {tree}")
    if source.format == "cuhk":
        return cuhk.load_cuhk(source.root, split, source.gallery, subset=source.subset)
    return (prw.load_prw if source.format == "prw" else json_data.load_json)(source.root, split)


def read_image(truth: ImageTruth) -> np.ndarray:
    """uint8 (h, w, 3) BGR; DataError names an unreadable file."""
    if StreetImages.owns(truth.path):
        return StreetImages.read(truth.path)
    return read_picture(truth.path)


@dataclass
class Sample:
    image: np.ndarray  # (H, W, 3) uint8 canvas
    boxes: np.ndarray  # (n, 4)
    labels: np.ndarray  # (n,) 1..L or -1
    teacher: np.ndarray  # (n, T) or (n, 0)
    known: np.ndarray  # (n,) bool: has a teacher embedding
    draw: int  # number of the draw in the run
    replaced: bool = False  # it, or a part of it, stands in for a damaged image
    size: tuple[int, int] | None = None  # (h, w) of a frame that has its own size (`Sides`); the batch will be padded


@dataclass
class People:
    """A frame, or a part of a canvas, and who is on it; columns as in `Sample`."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    teacher: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    known: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    replaced: bool = False


class Samples(Dataset):
    """All sources after each other; identities become labels 1..L over all sources, in order of appearance."""

    def __init__(
        self,
        settings: DataSettings,
        fit: Letterbox | Sides,
        teacher: Teacher | None = None,
        boxes_per_image: int = 8,
        seed: int = 0,
    ) -> None:
        self.settings, self.fit, self.teacher = settings, fit, teacher
        self.boxes_per_image, self.seed = boxes_per_image, seed
        self.images: list[ImageTruth] = []
        self.labels: list[np.ndarray] = []
        self.weights: list[float] = []
        table: dict[tuple[int, int], int] = {}
        for number, source in enumerate(settings.train):
            data = load_split(source, "train")
            if not data.images:
                raise DataError(f"{source.root or source.format}: the training split is empty")
            for truth in data.images:
                labels = [-1 if k < 0 else table.setdefault((number, int(k)), len(table) + 1) for k in truth.identities]
                self.images.append(truth)
                self.labels.append(np.array(labels, np.int64))
            self.weights += [source.weight / len(data.images)] * len(data.images)
        self._probability = np.asarray(self.weights, np.float64) / np.sum(self.weights)
        self.identity_table = {label: f"{number}:{identity}" for (number, identity), label in table.items()}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """key: index and the draw's number, which seeds the augmentation. The next image replaces a damaged one."""
        index, draw = key
        rng = np.random.default_rng((self.seed, draw))
        options = self.settings.augment
        scene = self._read(index)
        mosaic = rng.random() < options.mosaic
        canvas, size = self.fit, None
        if isinstance(canvas, Sides):
            scene.image, factors = canvas(scene.image)
            scene.boxes = scene.boxes * factors
            size = (scene.image.shape[0], scene.image.shape[1])
            canvas = Letterbox(*size)
        people = self._mosaic(scene, canvas, rng) if mosaic else self._view(scene, canvas, self.boxes_per_image, rng)
        image = augment.after_teacher(people.image, people.boxes, options, rng)
        return Sample(image, people.boxes, people.labels, people.teacher, people.known, draw, people.replaced, size)

    def _read(self, index: int) -> People:
        """An annotated frame; the next one if it is damaged."""
        for attempt in range(MOST_DAMAGED):
            where = (index + attempt) % len(self.images)
            truth, labels = self.images[where], self.labels[where]
            try:
                image = read_image(truth)
                break
            except DataError as error:
                if self.settings.on_bad_image == "stop":
                    raise
                print(f"skipped: {error}", file=sys.stderr)
        else:
            raise DataError(f"{MOST_DAMAGED} images in a row cannot be read, from {self.images[index].path} on")
        boxes = clip(truth.boxes.astype(np.float32), *image.shape[:2])
        return People(image, boxes, labels, replaced=attempt > 0)

    def _another(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.images), p=self._probability))

    def _mosaic(self, scene: People, whole: Letterbox, rng: np.random.Generator) -> People:
        """A frame and three others, each on a part of the canvas."""
        canvas = np.empty((whole.height, whole.width, 3), np.uint8)
        parts: list[People] = []
        for left, top, window in composition.windows(whole, rng):
            scene = self._read(self._another(rng)) if parts else scene
            part = self._view(scene, window, math.ceil(self.boxes_per_image / 4), rng)
            canvas[top : top + window.height, left : left + window.width] = part.image
            part.boxes = part.boxes + np.array([left, top] * 2, np.float32)
            parts.append(part)
        return _joined(canvas, parts)

    def _view(self, scene: People, canvas: Letterbox, taught: int, rng: np.random.Generator) -> People:
        """A frame as the student sees it on a canvas, and what the teacher says of at most `taught` of its people."""
        options = self.settings.augment
        image, boxes, labels = augment.before_teacher(scene.image, scene.boxes, scene.labels, options, rng)
        size = image.shape[0], image.shape[1]
        placement = composition.random_placement(size, canvas, options.zoom, rng)
        known = np.zeros(len(boxes), bool)
        embeddings = np.zeros((len(boxes), 0), np.float32)
        if self.teacher is not None:
            chosen = rng.permutation(np.flatnonzero(placement.boxes(boxes, canvas)[1]))[:taught]
            known[chosen] = True
            made = self.teacher(image, boxes[known])
            embeddings = np.zeros((len(boxes), made.shape[1]), np.float32)
            embeddings[known] = made
        replaced = scene.replaced
        if len(boxes) and rng.random() < options.new_background:
            other = self._read(self._another(rng))
            replaced |= other.replaced
            image, others, shown = composition.paste_people(image, boxes, other.image, other.boxes)
            boxes, labels = np.concatenate([boxes, others[shown]]), np.concatenate([labels, other.labels[shown]])
            known = np.append(known, np.zeros(shown.sum(), bool))
            embeddings = np.pad(embeddings, ((0, int(shown.sum())), (0, 0)))
        placed, visible = placement.boxes(boxes, canvas)
        drawn = placement.draw(image, canvas)
        return People(drawn, placed[visible], labels[visible], embeddings[visible], known[visible], replaced)


def _joined(image: np.ndarray, parts: Sequence[People]) -> People:
    """All people of several parts of one canvas."""
    boxes, labels, teacher, known = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "labels", "teacher", "known")
    )
    return People(image, boxes, labels, teacher, known, any(part.replaced for part in parts))


class WeightedDraws(Sampler):
    """An endless, seeded stream of (index, draw) batches that can start anywhere: resuming needs only a number.

    Images of equal weight come in passes, each image once per pass in a new order; images of different weights are
    drawn independently. The stream of all ranks together does not depend on how many ranks share it.

    groups  (images,) where every batch, over all ranks, is to be of one group: its images are drawn independently
    """

    def __init__(
        self, weights: Sequence[float], batch: int, seed: int, begin: int, steps: int, rank: int, ranks: int,
        groups: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.probability = np.asarray(weights, np.float64) / np.sum(weights)
        self.groups = None if groups is None else np.asarray(groups)
        self.batch, self.seed, self.begin, self.steps, self.rank, self.ranks = batch, seed, begin, steps, rank, ranks

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self.batch * self.ranks
        for step in range(self.begin, self.begin + self.steps):
            chosen = self._chosen(step, size)
            mine = range(self.rank * self.batch, (self.rank + 1) * self.batch)
            yield [(int(chosen[i]), step * size + i) for i in mine]

    def _chosen(self, step: int, size: int) -> np.ndarray:
        count = len(self.probability)
        if self.groups is not None:
            rng = np.random.default_rng((self.seed, step, 3))
            group = self.groups[rng.choice(count, p=self.probability)]
            there = np.where(self.groups == group, self.probability, 0)
            return rng.choice(count, size=size, p=there / there.sum())
        if np.ptp(self.probability) > 1e-12:
            return np.random.default_rng((self.seed, step, 1)).choice(count, size=size, p=self.probability)
        positions = np.arange(step * size, (step + 1) * size)
        return np.array([self._order(position // count)[position % count] for position in positions])

    @lru_cache(maxsize=2)  # noqa: B019 (lives as long as one run's loader)
    def _order(self, turn: int) -> np.ndarray:
        return np.random.default_rng((self.seed, turn, 2)).permutation(len(self.probability))


def collate(samples: Sequence[Sample]) -> tuple[Tensor, list[Targets]]:
    frames = [s.image for s in samples]
    images = padded_batch(frames)[0] if samples[0].size else torch.from_numpy(np.stack(frames))
    arrays = [(s.boxes, s.labels, s.teacher, s.known) for s in samples]
    return images, [
        Targets(*map(torch.from_numpy, part), sample.draw, sample.replaced, sample.size)  # type: ignore[call-arg,arg-type]
        for part, sample in zip(arrays, samples, strict=True)
    ]


def quiet_worker(_: int) -> None:
    """Loading processes get one thread each, and leave Ctrl-C and SIGTERM, which service managers send to all, to the
    training process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
