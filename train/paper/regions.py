"""What a frozen network computes of people's regions, once: the start of experiments that cost a second a run.

A region is a RoI of a frame: an annotated box, a proposal on somebody, or one on the background.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from personsearch.core.boxes import iou
from personsearch.core.errors import DataError
from personsearch.core.files import replace_file
from personsearch.core.preprocess import Letterbox
from personsearch.core.records import ImageTruth, Query
from personsearch.train.data.prw import SearchData
from personsearch.train.data.samples import load_split, read_image
from personsearch.train.model.csp import CSPStem
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import RpnSettings, SourceSettings
from personsearch.train.vision import box_iou, nms, roi_align
from personsearch.train.weights.checkpoint import load_network

KINDS = ("coco", "random", "reid")  # which frozen part describes the regions
MAPS = {"stage2": 4, "stage3": 8, "top3": 8}  # maps of the stem with their strides: edges, texture, parts
CELLS = (6, 3)  # of RoIAlign on each; the mean over the width leaves six stripes
RPN = RpnSettings(kind="dense", nms_iou=0.8, train_candidates=300, train_proposals=100)  # as configs/ablation.yaml
POSITIVE_IOU, FOUND_IOU, FOUND_SCORE = 0.5, 0.5, 0.3
BACKGROUND = 32  # per frame
JITTERED = 6  # per person
FRAMES = {"coco": 400, "random": 400, "reid": 120}  # a person costs the head's whole network
ASKED = 5  # queries per person at most
TRUTH, PROPOSED, MOVED = 0, 1, 2
NOBODY, UNKNOWN = -1, -2  # instead of an identity: background, and a person whose identity is not annotated
IDENTITIES = {"train": 120, "test": 100}  # of the street
CAMERAS, PEOPLE = 4, 8
TEST_IMBALANCE = 1.0  # the test street is long-tailed, as PRW's test set; training's imbalance is a condition


@dataclass(frozen=True)
class Regions:
    """The regions of a data set's frames, frame after frame, the proposals by falling score and the truth last.

    features  (N, C) float16, what the layers of the embedding take
    frames    (N,) int64 number of the image
    cameras   (N,) int64
    people    (N,) int64 identity; NOBODY = background, UNKNOWN = a person without one
    boxes     (N, 4) float32 xyxy in the frame's own pixels
    ious      (N,) float32 with the person's annotated box; of background with the nearest
    scores    (N,) float32 of the proposal; 1 for the others
    origin    (N,) int64 annotated (0), proposed by the network (1), or an annotated box that was moved (2)
    found     (N,) bool, a detection: what NMS at the working point leaves of the proposals
    query     (N,) bool, an annotated box that asks for its person
    """

    features: np.ndarray
    frames: np.ndarray
    cameras: np.ndarray
    people: np.ndarray
    boxes: np.ndarray
    ious: np.ndarray
    scores: np.ndarray
    origin: np.ndarray
    found: np.ndarray
    query: np.ndarray

    def data(self) -> SearchData:
        """The annotation as evaluation takes it; images are named by their number."""
        images = []
        for frame in np.unique(self.frames):
            rows = np.flatnonzero((self.frames == frame) & (self.origin == TRUTH))
            camera = int(self.cameras[self.frames == frame][0])
            images.append(ImageTruth(str(frame), "", self.boxes[rows], np.maximum(self.people[rows], -1), camera))
        asked = np.flatnonzero(self.query)
        return SearchData(images, [Query(str(self.frames[i]), self.boxes[i], int(self.people[i])) for i in asked])


def source_of(data: str, root: str, split: str, frames: int) -> SourceSettings:
    """What the regions are of: `frames` frames of these experiments' street, or of the data in the folder `root`."""
    if data != "street":
        return SourceSettings.model_validate({"format": data, "root": root, "frames": frames})
    return SourceSettings(
        format="street", identities=IDENTITIES[split], frames=frames,
        cameras=CAMERAS, people=PEOPLE, imbalance=0.0 if split == "train" else TEST_IMBALANCE,
    )  # fmt: skip


def regions_of(source: SourceSettings, split: str, kind: str, network: str | Path, folder: Path) -> Regions:
    """Read from `folder`, or computed and kept there: one folder has the regions, and the results, of one data set.

    Raises DataError for a file that another call did not write, or that has the regions of something else.
    """
    made = json.dumps([source.model_dump(), split, kind, str(network)])
    file = folder / f"regions-{split}-{kind}.npz"
    if file.exists():
        try:
            with np.load(file, allow_pickle=False) as content:
                kept, columns = str(content["made"]), {field.name: content[field.name] for field in fields(Regions)}
        except Exception as error:  # numpy's parser raises a dozen kinds for a damaged file
            raise DataError(f"{file}: cannot be read ({type(error).__name__}); remove it to compute it again") from None
        if kept != made:
            raise DataError(f"{file}: is of other data or another network; choose another folder with --out")
        return Regions(**columns)
    images = load_split(source, split).images
    chosen = np.unique(np.linspace(0, len(images) - 1, source.frames).astype(int))  # of the street all
    regions = compute(load_network(network)[0], [images[i] for i in chosen], kind)
    columns = {field.name: getattr(regions, field.name) for field in fields(Regions)}
    replace_file(file, lambda out: np.savez(out, made=np.array(made), **columns))
    return regions


@torch.no_grad()
def compute(network: PersonSearch, images: Sequence[ImageTruth], kind: str) -> Regions:
    """Every frame's regions, computed on the network's canvas.

    kind  coco    stripes of the detector's maps: features of COCO, which know people but not who they are
          random  the same maps of random weights
          reid    what the network's own head says; without moved boxes, and half of the background
    """
    if not isinstance(network.stem, CSPStem):
        raise DataError("regions are computed by the light network (backbone csp_nano)")
    network.eval()
    fit = Letterbox(network.settings.height, network.settings.width)
    network.settings = network.settings.model_copy(update={"rpn": RPN})
    describe = _head(network) if kind == "reid" else _stripes(network, kind == "random")
    parts: list[dict[str, np.ndarray]] = []
    for number, truth in enumerate(tqdm(images, desc=f"regions ({kind})", unit="frame", leave=False)):
        frame, scale = fit(read_image(truth))
        image = torch.from_numpy(frame)[None]
        people = np.where(truth.identities < 0, UNKNOWN, truth.identities)
        fitted = replace(truth, boxes=truth.boxes * np.float32(scale), identities=people)
        part = _regions(network, image, fitted, number, few=kind == "reid")
        count = len(part["boxes"])
        part["features"] = describe(image, torch.from_numpy(part["boxes"])).half().numpy()
        part["boxes"] /= np.float32(scale)
        part["frames"], part["cameras"] = np.full(count, number), np.full(count, truth.camera)
        parts.append(part)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["query"] = asking(columns["people"], columns["origin"] == TRUTH)
    return Regions(**columns)


def asking(people: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) bool: sightings of each person that ask for the others, spread over all of them."""
    asks = np.zeros(len(people), bool)
    for person in np.unique(people[truth & (people >= 0)]):
        rows = np.flatnonzero(truth & (people == person))
        if len(rows) > 1:
            asks[rows[np.unique(np.linspace(0, len(rows) - 1, ASKED).astype(int))]] = True
    return asks


def _regions(network: PersonSearch, image: Tensor, truth: ImageTruth, number: int, few: bool) -> dict[str, np.ndarray]:
    """The regions of one frame without their features; boxes, `truth`'s too, are on the canvas."""
    rng = np.random.default_rng(number)
    pyramid, _ = network.features(image)
    (proposed,) = network.propose(*network.rpn(pyramid), None, training=True)  # type: ignore[misc,call-arg]
    boxes, scores = proposed
    own = torch.from_numpy(truth.boxes)
    overlap, owner = box_iou(boxes, own).max(1) if len(own) else (torch.zeros(len(boxes)), torch.zeros(len(boxes)))
    found = torch.zeros(len(boxes), dtype=torch.bool)
    best = nms(boxes, scores, FOUND_IOU)
    found[best[scores[best] >= FOUND_SCORE]] = True
    positive = overlap >= POSITIVE_IOU
    background = rng.permutation(torch.nonzero(~positive).flatten().numpy())[: BACKGROUND // 2 if few else BACKGROUND]
    keep = positive | found
    keep[torch.from_numpy(background)] = True
    whose = [int(truth.identities[int(i)]) if on else NOBODY for on, i in zip(positive[keep], owner[keep], strict=True)]
    jittered = 0 if few else JITTERED
    moved = [moved_boxes(box, jittered, rng) for box in truth.boxes]
    counts = (int(keep.sum()), jittered * len(own), len(own))
    return {
        "boxes": np.concatenate([boxes[keep].numpy(), *moved, truth.boxes]).astype(np.float32),
        "scores": np.concatenate([scores[keep].numpy(), np.ones(counts[1] + counts[2])]).astype(np.float32),
        "people": np.concatenate([whose, np.repeat(truth.identities, jittered), truth.identities]).astype(np.int64),
        "ious": np.concatenate(
            [overlap[keep].numpy(), *(iou(m, b[None])[:, 0] for m, b in zip(moved, truth.boxes, strict=True)),
             np.ones(len(own))]
        ).astype(np.float32),
        "origin": np.repeat([PROPOSED, MOVED, TRUTH], counts),
        "found": np.concatenate([found[keep].numpy(), np.zeros(counts[1] + counts[2], bool)]),
    }  # fmt: skip


def moved_boxes(box: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 4) boxes of other places and sizes whose IoU with `box` (4,) is spread evenly over 0.5 to 1."""
    size = np.array([box[2] - box[0], box[3] - box[1]])
    wanted, ways = rng.uniform(POSITIVE_IOU, 1, count), rng.normal(size=(count, 2, 2))
    centre = (box[:2] + box[2:]) / 2
    near, far = np.zeros(count), np.full(count, 2.0)
    there = np.zeros((count, 4))
    for _ in range(20):  # the further along the way, the smaller the IoU
        way = (near + far)[:, None] / 2
        middle, half = centre + way * ways[:, 0] * size, size * np.exp(way * ways[:, 1]) / 2
        there = np.concatenate([middle - half, middle + half], 1)
        beyond = iou(there, box[None])[:, 0] <= wanted
        near, far = np.where(beyond, near, way[:, 0]), np.where(beyond, way[:, 0], far)
    right = iou(there, box[None]) >= POSITIVE_IOU
    return np.where(right, there, box).astype(np.float32)


def _head(network: PersonSearch) -> Any:
    def describe(image: Tensor, boxes: Tensor) -> Tensor:
        _, feature = network.features(image)
        return torch.cat([network.head(network.crop(feature, [part])) for part in boxes.split(32)])

    return describe


def _stripes(network: PersonSearch, random: bool) -> Any:
    stem = network.stem
    if random:
        torch.manual_seed(0)
        stem = PersonSearch(network.settings).eval().stem
    maps: dict[str, Tensor] = {}

    def keeper(name: str) -> Any:
        def keep(module: nn.Module, _: Any, made: Tensor) -> None:
            maps[name] = made

        return keep

    for name in MAPS:
        getattr(stem, name).register_forward_hook(keeper(name))

    def describe(image: Tensor, boxes: Tensor) -> Tensor:
        if random:  # the network's own maps are those of the pass that found the regions
            stem(image.float().permute(0, 3, 1, 2))
        cells = [roi_align(maps[name], [boxes], CELLS, 1 / stride, 2, False) for name, stride in MAPS.items()]
        return torch.cat([c.mean(3).flatten(1) for c in cells], 1)

    return describe
