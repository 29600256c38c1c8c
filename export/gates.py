"""The gates of an export: what each engine and precision loses against PyTorch fp32, and what is refused for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from personsearch.core.bundle import Threshold, graph_file, read_manifest
from personsearch.core.engines.choice import BACKENDS
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import EngineError
from personsearch.core.openvino_core import computes_bf16
from personsearch.core.preprocess import Letterbox
from personsearch.core.records import Detections
from personsearch.export.parity import MIN_SCORE, Parity, compare
from personsearch.export.scoring import Finder, Subject, accuracy, thresholds
from personsearch.train.data.prw import SearchData
from personsearch.train.data.samples import load_split
from personsearch.train.settings import SourceSettings

T = TypeVar("T")
# A float32 graph must agree with PyTorch to rounding; weights stored as float16 cost a little.
MIN_COSINE_P1, MIN_MATCHED = 0.999, 0.98


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
    rounded: bool = False  # parity is with PyTorch on weights rounded to float16, since they are not the trained ones

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
            f"{'  rounded' if self.rounded else ''}"
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
    reference: Finder,
    bundle: Path,
    frames: Sequence[np.ndarray],
    data: SearchData,
    thresholds_from: SearchData,
    min_score: float,
    note: Callable[[str], None] = print,
    rounded: Callable[[], Finder] | None = None,
) -> tuple[list[Gate], dict[str, list[Threshold]]]:
    """Every engine of this machine that can run a graph of the bundle, and each one's similarity thresholds.

    rounded  gives PyTorch with weights as the graphs have them, where those are stored as float16: asked for only if a
             float32 engine differs from `reference`, which rounding may do to a network whose norms were folded
    """
    manifest = read_manifest(bundle)
    on_demand, letterbox = manifest.describe == "demand", Letterbox(manifest.height, manifest.width)
    exact = accuracy(Subject(reference, on_demand), data, min_score, shown("PyTorch: test frames"))
    same = [letterbox(frame)[0] for frame in frames]  # the same pixels for all

    def people_by(finder: Finder, stage: str) -> list[Detections]:
        return [finder.detect([frame], MIN_SCORE)[0] for frame in shown(stage)(same)]

    expected = people_by(reference, "PyTorch: frames for parity")
    expected_rounded: list[Detections] = []
    gates, by_engine = [], {}
    note(HEADER)
    for searcher, precision in runnable(bundle):
        name = searcher.engine.name
        # Boxes are embedded by a float32 graph of their own: other precisions are measured where they describe.
        subject = Subject(searcher, on_demand and precision == "fp32")
        figures = accuracy(subject, data, min_score, shown(f"{name}: test frames"))
        parity = compare(expected, searcher, shown(f"{name} beside PyTorch")(same))
        gate = Gate(
            name, precision, parity, figures.mean_ap, figures.top1, figures.detection_ap,
            figures.mean_ap - exact.mean_ap, figures.top1 - exact.top1, figures.detection_ap - exact.detection_ap,
        )  # fmt: skip
        if precision == "fp32" and not gate.exact and rounded is not None:
            if not expected_rounded:
                expected_rounded = people_by(rounded(), "PyTorch, rounded weights: frames for parity")
            parity = compare(expected_rounded, searcher, shown(f"{name} beside PyTorch, rounded")(same))
            gate = replace(gate, parity=parity, rounded=True)
        note(gate.row())
        gates.append(gate)
        found = thresholds(subject, thresholds_from, min_score, shown(f"{name}: thresholds"))
        if found:
            by_engine[name] = found
    return gates, by_engine


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


def shown(stage: str) -> Callable[[Iterable[T]], Iterable[T]]:
    """Puts a bar of this stage on stderr that tells the time left beside the steps that it is given."""
    return partial(tqdm, desc=stage, unit="frame", dynamic_ncols=True)


def judge(gates: Sequence[Gate], max_loss: float, accept_loss: bool) -> tuple[str, tuple[str, ...]]:
    """Why nothing may be written ("" = all is well), and the engines that `auto` must avoid.

    A float32 engine must agree with PyTorch; on weights rounded to float16, where these are not the trained ones, and
    then it may lose no more than `max_loss` mAP points by the rounding. A graph that was asked for (fp16, int8) is
    refused where an engine loses more on it; bf16 is a way of running the float32 graph, so it is merely not chosen.
    """
    for gate in gates:
        if gate.precision == "fp32" and not gate.exact:
            parity = gate.parity
            return (
                f"{gate.engine} differs from PyTorch (matched {parity.matched:.3f}, cosine {parity.cosine_p1:.4f} at "
                "the 1st percentile), which is a fault of the export or of the engine; report it, with this line",
                (),
            )
    if accept_loss:
        return "", ()
    for gate in gates:
        if gate.rounded and gate.loss > max_loss:
            return (
                f"weights rounded to fp16 cost {gate.loss:.2f} mAP points ({gate.engine}), more than {max_loss:g}, as "
                "they do to a network that was hardly trained: train it longer, give --weights fp32, or --accept-loss",
                (),
            )
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
