"""Figs. S2 and S3: positive proposals by their IoU with the person, with the step that LOIM gives each (Eq. 7-8)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from personsearch.core.pictures import write_picture
from personsearch.core.records import ImageTruth
from personsearch.train.data.samples import read_image
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.oim import make_loss
from personsearch.train.scoring.pictures import GREEN, RED, frame_box
from personsearch.train.sides import Sides, fit_of, padded_batch
from personsearch.train.vision import box_iou

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the rows, in IoU
PANEL = (150, 220)  # width and height in pixels


@dataclass(frozen=True)
class Proposal:
    """A proposal on a person: boxes (4,) xyxy in the image's own pixels, and LOIM's step for it."""

    image: ImageTruth
    box: np.ndarray
    person: np.ndarray
    iou: float
    step: float


@torch.no_grad()
def positive_proposals(network: PersonSearch, images: list[ImageTruth]) -> list[Proposal]:
    """What the network would learn from in these images: its training proposals on annotated people.

    With two stages these are the refined boxes. The best proposal of each person and IoU class is kept, for a picture
    of different people.
    """
    network.eval()
    fit, loss, found = fit_of(network.settings), make_loss(network.settings.identity, 1), []
    for truth in images:
        if not len(truth.boxes):
            continue
        frame, scale = fit(read_image(truth))
        sizes = None
        batch = torch.from_numpy(frame[None])
        if isinstance(fit, Sides):
            batch, sizes = padded_batch([frame])
        pyramid, feature = network.features(batch, sizes)
        proposals = network.propose(*network.rpn(pyramid), sizes, training=True)  # type: ignore[misc,call-arg]
        if network.first is not None:
            proposals = network.refine(feature, proposals, sizes)
        people = torch.from_numpy(truth.boxes.astype(np.float32) * scale)
        ((boxes, _),) = proposals
        ious, owners = box_iou(boxes, people).max(1)
        steps = loss.steps(ious)
        taken: set[tuple[int, int]] = set()
        for row in torch.nonzero(ious >= network.settings.roi.positive_iou).flatten().tolist():
            place = (int(owners[row]), _row_of(float(ious[row])))
            if place not in taken:
                taken.add(place)
                person = truth.boxes[place[0]]
                found.append(Proposal(truth, boxes[row].numpy() / scale, person, float(ious[row]), float(steps[row])))
    return found


def draw_proposals(proposals: list[Proposal], path: Path, columns: int = 8) -> Path:
    """A row for each class of IoU, worst first: the proposal in red, the person in green, IoU and step above."""
    classes: list[list[Proposal]] = [[] for _ in EDGES[1:]]
    for one in proposals:
        classes[_row_of(one.iou)].append(one)
    blank = np.full((PANEL[1], PANEL[0], 3), 255, np.uint8)
    lines = []
    for members in classes:
        spread = np.unique(np.linspace(0, max(0, len(members) - 1), columns).round().astype(int))
        panels = [_panel(members[i]) for i in spread if i < len(members)]
        lines.append(np.concatenate([*panels, *[blank] * (columns - len(panels))], 1))
    write_picture(path, np.concatenate(lines, 0))
    return path


def _row_of(iou: float) -> int:
    return int(np.clip(np.searchsorted(EDGES, iou, side="right") - 1, 0, len(EDGES) - 2))


def _panel(one: Proposal) -> np.ndarray:
    image = read_image(one.image)
    h, w = image.shape[:2]
    both = np.concatenate([np.minimum(one.box, one.person)[:2], np.maximum(one.box, one.person)[2:]])
    margin = 0.1 * (both[2:] - both[:2])
    x1, y1 = np.clip(both[:2] - margin, 0, [w - 1, h - 1]).astype(int)
    x2, y2 = np.maximum(np.clip(both[2:] + margin, 0, [w, h]).astype(int), (x1 + 1, y1 + 1))
    head = 20
    scale = min((PANEL[0] - 4) / (x2 - x1), (PANEL[1] - head - 4) / (y2 - y1))
    size = (max(1, int((x2 - x1) * scale)), max(1, int((y2 - y1) * scale)))
    crop = cv2.resize(image[y1:y2, x1:x2], size)
    origin = np.array([x1, y1, x1, y1])
    frame_box(crop, (one.person - origin) * scale, GREEN)
    frame_box(crop, (one.box - origin) * scale, RED)
    canvas = np.full((PANEL[1], PANEL[0], 3), 255, np.uint8)
    canvas[head : head + size[1], 2 : 2 + size[0]] = crop
    text = f"IoU {one.iou:.2f}  c {one.step:.2f}"
    cv2.putText(canvas, text, (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas
