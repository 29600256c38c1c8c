"""The last part of the network, trained on cached regions under conditions that can be chosen; about a second a run.

What learns is the method's own: `PersonSearch.embed` (projection, norm, L2), `make_norm`, `OIMLoss` with look-up table
and queue, the paper's optimiser and its schedule. What is chosen is the batches: images are composed of cached people
and background, so that imbalance, people per image and misalignment are numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from personsearch.core.metrics import annotated_as_detections, answerable, other_cameras, search_scores
from personsearch.core.records import Detections
from personsearch.train.loop.optimiser import rate_factor
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.oim import OIMLoss, make_loss
from personsearch.train.model.protonorm import BACKGROUND, UNLABELLED, make_norm
from personsearch.train.paper.regions import PROPOSED, TRUTH, Regions
from personsearch.train.settings import IdentitySettings, OptimiserSettings

DIMENSIONS, QUEUE, UNKNOWN = 128, 100, 20  # of the embedding; of the queue; people without a label
SGD = OptimiserSettings(epochs=20, warmup_epochs=1, drop_epochs=(16,), weight_decay=5e-4)  # the paper's, made short
PEOPLE_ROIS = 64  # of an image at most
GOOD, BAD = 0.8, 0.65  # IoUs of well placed, and of misaligned proposals


@dataclass(frozen=True)
class Condition:
    """features    what the frozen part is: see regions.KINDS
    imbalance   exponent of the frequency over the identities' ranks; 0 = all equally often
    people      per image
    batch       images a step
    background  share of the RoIs that are background, as far as there is any
    misaligned  share of a person's proposals with an IoU below 0.65 (the others: above 0.8); -1 = as they come
    truth       the annotated boxes are RoIs as well, the last ones (released code)
    cameras     how many of the training street's cameras are seen; 0 = all
    images      of which training draws its batches
    rate        of SGD; the paper's 0.003 is for 20 epochs, and a run here has the steps of a small part of one
    """

    features: str = "coco"
    imbalance: float = 1.0
    people: int = 3
    batch: int = 5
    background: float = 0.75
    misaligned: float = -1.0
    truth: bool = True
    cameras: int = 0
    images: int = 200
    steps: int = 120
    rate: float = 0.03


class Branch(nn.Module):
    """What `PersonSearch.embed` needs of a network."""

    def __init__(self, width: int, identity: IdentitySettings) -> None:
        super().__init__()
        self.projection = nn.Linear(width, identity.dimensions, bias=False)
        self.norm = make_norm(identity.norm, identity.dimensions, identity.norm_background)
        nn.init.normal_(self.projection.weight, std=0.01)  # as PersonSearch does

    def forward(self, vectors: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, C) float32 -> (N, D), L2-normalised."""
        return PersonSearch.embed(cast(PersonSearch, self), vectors, labels)


Image = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows of people, their labels, rows of background


class Scenes:
    """Training images composed of cached regions: `people` drawn by their frequency, each at some place and time."""

    def __init__(self, regions: Regions, condition: Condition, seed: int) -> None:
        rng = np.random.default_rng((seed, 5))
        self.regions, self.condition = regions, condition
        self._rows: dict[tuple[int, int], list[int]] = {}
        for row, key in enumerate(zip(regions.frames.tolist(), regions.people.tolist(), strict=True)):
            self._rows.setdefault(key, []).append(row)
        seen = (regions.origin == TRUTH) & (regions.people >= 0)
        if condition.cameras:
            seen &= regions.cameras <= condition.cameras
        where: dict[int, list[int]] = {}
        for frame, person in zip(regions.frames[seen].tolist(), regions.people[seen].tolist(), strict=True):
            where.setdefault(person, []).append(frame)
        everybody = rng.permutation(sorted(where))
        labelled = rng.permutation(everybody)[min(UNKNOWN, len(everybody) // 4) :]
        self.labels = {int(person): label for label, person in enumerate(labelled, start=1)}
        weights = (1.0 + np.arange(len(everybody))) ** -condition.imbalance
        people = min(condition.people, len(everybody))
        self.images: list[Image] = []
        for _ in range(condition.images):
            drawn = rng.choice(everybody, people, replace=False, p=weights / weights.sum())
            self.images.append(self._compose([(int(p), int(rng.choice(where[int(p)]))) for p in drawn]))

    def _compose(self, places: list[tuple[int, int]]) -> Image:
        proposals, annotated, background = list[int](), list[int](), list[int]()
        for person, frame in places:
            rows = np.array(self._rows[(frame, person)])
            proposals += rows[self._usable(rows)].tolist()
            annotated += rows[self.regions.origin[rows] == TRUTH][:1].tolist() if self.condition.truth else []
            background += self._rows.get((frame, -1), [])
        rows = np.array(proposals + annotated, np.int64)
        labels = np.array([self.labels.get(int(p), UNLABELLED) for p in self.regions.people[rows]], np.int64)
        return rows, labels, np.unique(np.array(background, np.int64))

    def _usable(self, rows: np.ndarray) -> np.ndarray:
        origin = self.regions.origin[rows]
        return origin == PROPOSED if self.condition.misaligned < 0 else origin != TRUTH

    def draw(self, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """RoIs of a step as `sample_rois` picks them: half people at most, then background; the truth comes last."""
        rows, labels, background = self.images[image]
        if self.condition.misaligned >= 0:
            chosen = self._mixed(rows, rng)
        else:
            chosen = np.arange(len(rows))
        chosen = np.sort(rng.permutation(chosen)[:PEOPLE_ROIS])
        fill = round(len(chosen) * self.condition.background / (1 - self.condition.background))
        other = rng.permutation(background)[:fill]
        names = np.concatenate([np.full(len(other), BACKGROUND), labels[chosen]])
        return np.concatenate([other, rows[chosen]]), names

    def _mixed(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Of each person as many proposals as there are of the rarer kind at most, in the share that is asked for."""
        share, chosen = self.condition.misaligned, []
        for person in np.unique(self.regions.people[rows]):
            mine = self.regions.people[rows] == person
            free = mine & (self.regions.origin[rows] != TRUTH)
            bad = rng.permutation(np.flatnonzero(free & (self.regions.ious[rows] < BAD)))
            good = rng.permutation(np.flatnonzero(free & (self.regions.ious[rows] >= GOOD)))
            count = min(len(bad) if share else 99, len(good) if share < 1 else 99, 99)
            wrong = round(share * count)
            chosen += [bad[:wrong], good[: count - wrong], np.flatnonzero(mine & ~free)]
        return np.concatenate(chosen)


def train_branch(
    regions: Regions, condition: Condition, identity: IdentitySettings, seed: int, *,
    each_alone: bool = False, watch: Callable[[int, OIMLoss], None] | None = None,
) -> Branch:  # fmt: skip
    """Equal seeds give equal images, batches and first weights, whatever the norm and the loss: runs are pairs.

    each_alone  for ProtoNorm each RoI of a person is a prototype: frequent people weigh as in BatchNorm, and only the
                background is one prototype
    watch       is called after each step, with the number of steps and what they left in look-up table and queue
    """
    scenes = Scenes(regions, condition, seed)
    rng = np.random.default_rng((seed, 6))
    torch.manual_seed(seed)
    vectors, ious = torch.from_numpy(regions.features), torch.from_numpy(regions.ious)
    branch = Branch(vectors.shape[1], identity)
    loss = make_loss(identity, len(scenes.labels))
    optimiser = torch.optim.SGD(branch.parameters(), condition.rate, SGD.momentum, weight_decay=SGD.weight_decay)
    waiting: list[int] = []
    for step in range(condition.steps):
        if len(waiting) < condition.batch:
            waiting += rng.permutation(len(scenes.images)).tolist()
        drawn = [scenes.draw(waiting.pop(), rng) for _ in range(condition.batch)]
        rows, labels = (torch.from_numpy(np.concatenate(part)) for part in zip(*drawn, strict=True))
        for group in optimiser.param_groups:
            group["lr"] = condition.rate * rate_factor(
                SGD, step, max(1, condition.steps // SGD.epochs), condition.steps
            )
        embeddings = branch(
            vectors[rows].float(), torch.where(labels > 0, UNLABELLED, labels) if each_alone else labels
        )
        optimiser.zero_grad()
        loss(embeddings, labels).backward()
        nn.utils.clip_grad_norm_(branch.parameters(), SGD.clip_norm)
        optimiser.step()
        loss.update(embeddings, labels, ious[rows])
        if watch:
            watch(step + 1, loss)
    return branch.eval()


@torch.no_grad()
def score_branch(branch: Branch, regions: Regions) -> dict[str, float]:
    """Search and re-ID mAP (%) by the benchmarks' protocol; with several cameras also re-ID mAP in those of others."""
    data = regions.data()
    rows = np.flatnonzero(regions.found | (regions.origin == TRUTH))
    made = np.zeros((len(regions.frames), branch.projection.out_features), np.float32)
    made[rows] = branch(torch.from_numpy(regions.features[rows]).float()).numpy()
    asked = made[regions.query]
    found, annotated = dict[str, Detections](), dict[str, Detections]()
    for truth in data.images:
        here = regions.frames == int(truth.name)
        one = here & regions.found
        found[truth.name] = Detections(regions.boxes[one], regions.scores[one], made[one])
        annotated[truth.name] = annotated_as_detections(truth, made[here & (regions.origin == TRUTH)])
    elsewhere = other_cameras(data.queries, data.images)
    scores = {
        "search": search_scores(data.queries, asked, data.images, found),
        "re-ID": search_scores(data.queries, asked, data.images, annotated),
    }
    if answerable(data.queries, data.images, elsewhere):
        scores["across"] = search_scores(data.queries, asked, data.images, annotated, galleries=elsewhere)
    return {name: 100 * score.mean_ap for name, score in scores.items()}
