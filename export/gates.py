"""The gates of an export: what each engine and precision loses against PyTorch fp32, and what is refused for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from personsearch.core.boxes import iou
from personsearch.core.bundle import Threshold, graph_file
from personsearch.core.engines.choice import BACKENDS
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import EngineError
from personsearch.core.evaluation import Searcher, run_model, score_run
from personsearch.core.openvino_core import computes_bf16
from personsearch.core.records import ImageTruth, Query
from personsearch.export.calibrate import calibrate_thresholds
from personsearch.export.parity import Parity, compare
from personsearch.train.data.prw import SearchData
from personsearch.train.data.samples import load_split, read_image
from personsearch.train.settings import SourceSettings

T = TypeVar("T")
# A float32 graph must agree with PyTorch to rounding; weights stored as float16 cost a little.
MIN_COSINE_P1, MIN_MATCHED = 0.999, 0.98
SAME_PERSON_IOU = 0.5


@dataclass(frozen=True)
class Gate:
    """One engine and precision: parity on frames, and accuracy on a data set beside PyTorch's."""

    engine: str
    precision: str
    parity: Parity
    mean_ap: float
    top1: float
    detection_ap: float
    mean_ap_change: float  # engine - PyTorch
    top1_change: float
    detection_ap_change: float

    @property
    def loss(self) -> float:
        """mAP points lost (0..100)."""
        return -100 * self.mean_ap_change

    @property
    def exact(self) -> bool:
        """Does a float32 engine agree with PyTorch?"""
        parity = self.parity
        return parity.matched >= MIN_MATCHED and (parity.people == 0 or parity.cosine_p1 >= MIN_COSINE_P1)

    def to_json(self) -> dict[str, object]:
        own = {key: value for key, value in asdict(self).items() if key != "parity"}
        return {**own, **asdict(self.parity)}

    def row(self) -> str:
        p = self.parity
        return (
            f"{self.engine:28s} {p.matched:7.3f} {p.iou_mean:7.4f} {p.cosine_mean:9.5f} {p.cosine_p1:8.4f} "
            f"{100 * self.mean_ap:6.2f} {100 * self.mean_ap_change:+6.2f} {100 * self.top1:6.2f} "
            f"{100 * self.top1_change:+6.2f} {100 * self.detection_ap:6.2f} {100 * self.detection_ap_change:+6.2f}"
        )


HEADER = (
    "engine                       matched box IoU  cosine m cosine p1    mAP change  top-1 change det AP change\n"
    + "-" * 108
)


def find_data(root: str, split: str, frames: int) -> tuple[SearchData, str]:
    """A labelled data set, thinned to about `frames` images, and its description.

    root  a folder in PRW's layout or with people.json; "" = the synthetic street
    """
    if not root:
        seed = 4 if split == "train" else 0
        source = SourceSettings(format="street", seed=seed, frames=max(8, frames), identities=64)
        return load_split(source, split), f"synthetic street, seed {source.seed}"
    kind = "json" if (Path(root) / "people.json").is_file() else "prw"
    data = load_split(SourceSettings(format=kind, root=root), split)
    text = f"{Path(root).name}, {split} split"
    if len(data.images) <= frames:
        return data, text
    # The images of the queries stay, the others are thinned evenly.
    wanted = {query.image for query in data.queries}
    kept = [t for t in data.images if t.name in wanted][:frames]
    others = [t for t in data.images if t.name not in wanted]
    room = frames - len(kept)
    kept += [others[i] for i in np.linspace(0, len(others) - 1, min(room, len(others))).astype(int)] if room else []
    names = {t.name for t in kept}
    images, queries = [t for t in data.images if t.name in names], [q for q in data.queries if q.image in names]
    return SearchData(images, queries, tracks=data.tracks), text


def is_data_set(path: str) -> bool:
    return bool(path) and any((Path(path) / name).is_file() for name in ("people.json", "frame_train.mat"))


def measure(
    reference: Searcher,
    bundle: Path,
    frames: Sequence[np.ndarray],
    data: SearchData,
    thresholds_from: SearchData,
    min_score: float,
    note: Callable[[str], None] = print,
) -> tuple[list[Gate], dict[str, list[Threshold]]]:
    """Every engine of this machine that can run a graph of the bundle, and each one's similarity thresholds."""
    exact = _figures(reference, data.images, data.queries, min_score, "PyTorch")
    gates, thresholds = [], {}
    note(HEADER)
    for searcher, precision in runnable(bundle):
        name = searcher.engine.name
        figures = _figures(searcher, data.images, data.queries, min_score, name)
        same = [searcher.letterbox(frame)[0] for frame in frames]  # the same pixels for all
        gate = Gate(
            name, precision,
            compare(reference, searcher, shown(f"{name} beside PyTorch", same)),
            *figures, *(mine - theirs for mine, theirs in zip(figures, exact, strict=True)),
        )  # fmt: skip
        note(gate.row())
        gates.append(gate)
        found = engine_thresholds(searcher, thresholds_from, min_score, name)
        if found:
            thresholds[name] = found
    return gates, thresholds


def runnable(bundle: Path) -> Iterator[tuple[BundleSearcher, str]]:
    """The engines of this machine on every graph of the bundle, with their precision; the others are left out."""
    for backend, precisions in BACKENDS.items():
        for precision in precisions:
            if precision == "auto" or not (bundle / graph_file(precision)).is_file():
                continue
            if precision == "bf16" and not computes_bf16():
                continue  # it would be float32 under another name
            choice = backend if precision == precisions[0] else f"{backend}-{precision}"
            try:
                searcher = BundleSearcher(bundle, choice, keep=False)
            except EngineError:
                continue
            yield searcher, precision


def shown(stage: str, steps: Iterable[T], unit: str = "frame") -> Iterable[T]:
    """`steps` with a bar of this stage on stderr that tells the time left."""
    return tqdm(steps, desc=stage, unit=unit, dynamic_ncols=True)


def _figures(
    searcher: Searcher, images: Sequence[ImageTruth], queries: Sequence[Query], min_score: float, name: str
) -> tuple[float, float, float]:
    """Search mAP, top-1 and detection AP."""
    run = run_model(
        searcher, images, queries, cached_image, min_score=min(0.01, min_score), batch=1,
        progress=lambda steps: shown(f"{name}: test frames", steps),
    )  # fmt: skip
    report = score_run(run, images, queries, min_score=min_score)
    return report.search.mean_ap, report.search.top_k[1], report.detection.ap


def cached_image(truth: ImageTruth) -> np.ndarray:
    """Frames of the street are drawn once for all engines; those of a data set stay on disk."""
    return _drawn(truth.path) if "://" in truth.path else read_image(truth)


@lru_cache(maxsize=400)
def _drawn(path: str) -> np.ndarray:
    empty = np.zeros((0, 4), np.float32)
    return read_image(ImageTruth("", path, empty, np.zeros(0, np.int64)))


def engine_thresholds(searcher: Searcher, data: SearchData, min_score: float, name: str) -> list[Threshold]:
    """Thresholds from what this engine (or PyTorch) itself says of people whom it detects."""
    embeddings, identities = [], []
    for truth in shown(f"{name}: thresholds", data.images):
        (found,) = searcher.detect([cached_image(truth)], min_score)
        if not len(found) or not len(truth.boxes):
            continue
        overlap = iou(found.boxes, truth.boxes)
        owner = overlap.argmax(1)
        good = overlap.max(1) >= SAME_PERSON_IOU
        embeddings.append(found.embeddings[good])
        identities.append(truth.identities[owner[good]])
    if not embeddings:
        return []
    images = np.repeat(np.arange(len(identities)), [len(i) for i in identities]) if data.tracks else None
    return calibrate_thresholds(np.concatenate(embeddings), np.concatenate(identities), images)


def judge(gates: Sequence[Gate], max_loss: float, accept_loss: bool) -> tuple[str, tuple[str, ...]]:
    """Why nothing may be written ("" = all is well), and the engines that `auto` must avoid.

    A float32 engine must agree with PyTorch. A graph that was asked for (fp16, int8) is refused where an engine loses
    more than `max_loss` mAP points on it; bf16 is a way of running the float32 graph, so it is merely not chosen.
    """
    for gate in gates:
        if gate.precision == "fp32" and not gate.exact:
            return f"{gate.engine} differs from PyTorch", ()
    if accept_loss:
        return "", ()
    lossy = [gate for gate in gates if gate.loss > max_loss and gate.precision != "fp32"]
    refused = [gate for gate in lossy if gate.precision != "bf16"]
    if refused:
        worst = max(refused, key=lambda gate: gate.loss)
        return (
            f"{worst.engine} loses {worst.loss:.2f} mAP points, more than {max_loss:g}; calibrate on more of your own "
            f"frames, leave out --precision {worst.precision}, or give --accept-loss",
            (),
        )
    return "", tuple(gate.engine for gate in lossy)
