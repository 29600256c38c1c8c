"""Table 2's differences as functions of the conditions: sweeps of short runs, paired by seed, with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from personsearch.core.errors import DataError
from personsearch.core.files import replace_file
from personsearch.train.paper.ablation import ROWS, Row
from personsearch.train.paper.branch import DIMENSIONS, QUEUE, Condition, score_branch, train_branch
from personsearch.train.paper.regions import Regions
from personsearch.train.settings import IdentitySettings

ALONE = Row("pn-alone", "ProtoNorm, each RoI of a person a prototype", {"norm": "protonorm", "loss": "oim"})
METHODS = {row.key: row for row in (*ROWS[:5], ALONE)}  # Table 2's, and one that asks what ProtoNorm's gain is made of
DIFFERENCES = {  # Table 2's, where the paper has 2.3, 2.0, 1.7, 0.8, 0.5 (search mAP); then ProtoNorm's two parts
    "BatchNorm - none, OIM": ("bn-oim", "none-oim"),
    "ProtoNorm - BatchNorm, OIM": ("pn-oim", "bn-oim"),
    "ProtoNorm - BatchNorm, LOIM": ("pn-loim", "bn-loim"),
    "LOIM - OIM, BatchNorm": ("bn-loim", "bn-oim"),
    "LOIM - OIM, ProtoNorm": ("pn-loim", "pn-oim"),
    "background as one prototype": ("pn-alone", "bn-oim"),
    "people as one prototype each": ("pn-oim", "pn-alone"),
}
FIGURES = ("search", "re-ID", "across")  # the last one only of data with several cameras
BASE = Condition()


NORMS = ("bn-oim", "pn-oim")
PARTS = (*NORMS, ALONE.key)
LOSSES = ("bn-oim", "pn-oim", "bn-loim", "pn-loim")


@dataclass(frozen=True)
class Sweep:
    """One condition varied: `points` by what is written on the axis, and the rows of Table 2 that are compared."""

    title: str
    axis: str
    points: Mapping[float | str, Condition]
    methods: tuple[str, ...] = NORMS


def _over(field: str, values: Iterable[Any], base: Condition = BASE) -> dict[float | str, Condition]:
    return {value: replace(base, **{field: value}) for value in values}


SLOW = replace(BASE, rate=0.003)  # the paper's rate, of which the few steps make little
BACKGROUND, TAIL = (0.0, 0.5, 0.75, 0.9), (0.0, 1.0, 2.0, 3.0)
SWEEPS = {
    "base": Sweep("Table 2", "", {"base": BASE}, tuple(METHODS)),
    "background": Sweep("background", "share of the RoIs", _over("background", BACKGROUND), PARTS),
    "background-slow": Sweep("background, rate 0.003", "share of the RoIs", _over("background", BACKGROUND, SLOW)),
    "imbalance": Sweep("imbalance", "exponent of the long tail", _over("imbalance", TAIL), PARTS),
    "people-only": Sweep(
        "imbalance, no background", "exponent of the long tail", _over("imbalance", TAIL, replace(BASE, background=0.0))
    ),
    "rate": Sweep("learning rate", "rate of SGD", _over("rate", (0.003, 0.03, 0.1, 0.3)), LOSSES),
    "people": Sweep("people per image", "people", _over("people", (1, 3, 8))),
    "batch": Sweep("batch size", "images a step", _over("batch", (2, 5, 8))),
    "misaligned": Sweep("misaligned proposals", "share with IoU < 0.65", _over("misaligned", (0.0, 0.5, 1.0)), LOSSES),
    "misaligned-slow": Sweep(
        "misaligned, no annotated boxes, rate 0.003", "share with IoU < 0.65",
        _over("misaligned", (0.5, 1.0), replace(SLOW, truth=False)), ("bn-oim", "bn-loim"),
    ),
    "features": Sweep("start", "what is frozen", _over("features", ("random", "coco", "reid"))),
    "cameras": Sweep("cameras seen in training", "cameras", _over("cameras", (1, 4))),
}  # fmt: skip

Result = dict[str, float]


class Results:
    """Finished runs by condition, method and seed, in a file; an interruption costs one run."""

    def __init__(self, file: Path) -> None:
        self.file, self._lines = file, dict[str, Result]()
        if file.exists():
            try:
                for line in file.read_text().splitlines():
                    entry = json.loads(line)
                    self._lines[entry["run"]] = {n: float(entry[n]) for n in FIGURES if n != "across" or n in entry}
            except (ValueError, LookupError, TypeError):
                raise DataError(f"{file}: not the results of runs; remove it to run them again") from None

    def get(self, condition: Condition, method: str, seed: int, make: Callable[[], Result]) -> Result:
        key = json.dumps([asdict(condition), method, seed])
        if key not in self._lines:
            self._lines[key] = make()
            text = "".join(f"{json.dumps({'run': k, **v})}\n" for k, v in self._lines.items())
            replace_file(self.file, text.encode())
        return self._lines[key]


def run(train: Regions, test: Regions, condition: Condition, method: str, seed: int) -> Result:
    """The figures (%) of one training."""
    identity = identity_of(METHODS[method])
    branch = train_branch(train, condition, identity, seed, each_alone=method == ALONE.key)
    return score_branch(branch, test)


def identity_of(row: Row) -> IdentitySettings:
    return IdentitySettings(dimensions=DIMENSIONS, queue=QUEUE, **row.identity)


@dataclass(frozen=True)
class Gap:
    """Mean of paired differences over the seeds, and half the width of its 95 % interval (Student's t)."""

    mean: float
    half: float
    seeds: int

    @staticmethod
    def of(differences: np.ndarray) -> Gap:
        """(seeds,) at least two."""
        count = len(differences)
        half = stdtrit(count - 1, 0.975) * differences.std(ddof=1) / np.sqrt(count)
        return Gap(float(differences.mean()), float(half), count)

    @property
    def sure(self) -> bool:
        """The interval excludes zero."""
        return abs(self.mean) > self.half

    def __str__(self) -> str:
        return self.text(2)

    def text(self, digits: int) -> str:
        text = f"{self.mean:+.{digits}f} ± {self.half:.{digits}f}"
        return f"**{text}**" if self.sure else text


def gaps(rows: Mapping[str, list[Result]]) -> dict[str, dict[str, Gap]]:
    """Methods' results, seed by seed -> difference -> figure -> gap, of the methods that are there."""
    found = {}
    for name, (better, worse) in DIFFERENCES.items():
        if better in rows and worse in rows and len(rows[worse]) > 1:
            pairs = list(zip(rows[better], rows[worse], strict=True))
            found[name] = {f: Gap.of(np.array([a[f] - b[f] for a, b in pairs])) for f in FIGURES if f in pairs[0][0]}
    return found


def table(sweep: Sweep, results: Mapping[float | str, Mapping[str, list[Result]]]) -> list[str]:
    """A sweep's lines in Markdown: mAP of BatchNorm with OIM, then each difference; bold where zero is excluded."""
    found = {point: gaps(rows) for point, rows in results.items()}
    lines = []
    for figure in FIGURES:
        if any(figure not in rows["bn-oim"][0] for rows in results.values()):
            continue
        names = [name for name in DIFFERENCES if any(name in gap for gap in found.values())]
        title = f"{sweep.title}: {figure} mAP"
        lines += [f"| {title} | BatchNorm, OIM | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
        for point, rows in results.items():
            cells = [str(found[point][name][figure]) if name in found[point] else "" for name in names]
            level = f"{np.mean([r[figure] for r in rows['bn-oim']]):.1f}"
            lines.append(f"| {point} | {level} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def draw(results: Mapping[str, Mapping[float | str, Mapping[str, list[Result]]]], path: Path) -> None:
    """A panel a sweep: differences of re-ID mAP with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [name for name in results if len(results[name]) > 1]
    columns = min(4, len(shown)) or 1
    count = -(-max(1, len(shown)) // columns)
    figure, axes = pyplot.subplots(count, columns, figsize=(3.6 * columns, 3.1 * count), squeeze=False)
    lines: dict[str, Any] = {}
    for panel in axes.flat[len(shown) :]:
        panel.set_axis_off()
    for panel, name in zip(axes.flat, shown, strict=False):
        found = {point: gaps(rows) for point, rows in results[name].items()}
        places = np.arange(len(found))
        for number, difference in enumerate(DIFFERENCES):
            known = [(i, gap[difference]["re-ID"]) for i, gap in enumerate(found.values()) if difference in gap]
            if not known:
                continue
            at = places[[i for i, _ in known]] + 0.05 * (number - 3)
            lines[difference] = panel.errorbar(
                at, [g.mean for _, g in known], [g.half for _, g in known],
                fmt="o-", ms=3, lw=1, capsize=2, color=f"C{number}",
            )  # fmt: skip
        panel.axhline(0, color="grey", lw=0.8)
        panel.set_xticks(places, [f"{point:g}" if isinstance(point, float) else str(point) for point in found])
        panel.set_title(SWEEPS[name].title, fontsize=9)
        panel.set_xlabel(SWEEPS[name].axis, fontsize=8)
    for row in axes:
        row[0].set_ylabel("difference of re-ID mAP", fontsize=8)
    beside = min(3, columns)
    below = 0.18 * -(-len(lines) // beside) / figure.get_figheight()  # inches a line of the legend
    figure.tight_layout(rect=(0, below, 1, 1))
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncols=beside, fontsize=8)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
