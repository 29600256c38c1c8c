"""Fine-tune a bundle's weights on a user's own footage, and say honestly whether it helped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import BundleError, DataError
from personsearch.core.evaluation import Searcher, cosine_of_different_people, run_model, score_run
from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.core.metrics import answerable, other_cameras
from personsearch.train.blend import blend, renew_statistics
from personsearch.train.data.json_data import load_json, read_people
from personsearch.train.data.samples import read_image
from personsearch.train.loop.trainer import Trainer
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.torch_searcher import TorchSearcher
from personsearch.train.settings import TrainSettings
from personsearch.train.teaching.across import Travel, centred_run
from personsearch.train.teaching.detector_teacher import DetectorTeacher
from personsearch.train.teaching.footage import check_readable, label_footage
from personsearch.train.teaching.recentre import recentre
from personsearch.train.weights.checkpoint import (
    build_network,
    checkpoint_settings,
    load_checkpoint,
    load_network,
    save_checkpoint,
)

WEIGHTS, LABELS, REPORT = "weights.pth", "footage", "adapt"
LEAST_PEOPLE = 50
STEPS_PER_EPOCH = 50
STATISTICS = 24  # batches to renew the norms on
ACROSS = "re-ID mAP across cameras"


@dataclass(frozen=True)
class AdaptOptions:
    videos: tuple[str, ...]
    bundle: str
    out: str
    detector: str = ""
    teacher: str = ""
    every: int = 4
    max_frames: int = 0
    held_out: float = 0.25
    steps: int = 300  # 0: statistics only
    batch: int = 8
    rate: float = 1e-4
    share: float = 0.5  # of the trained weights in the result
    across: bool = False  # people are linked over cameras, and what is measured is finding them in another one
    travel: Travel = field(default_factory=dict)


def label(options: AdaptOptions, note: Callable[[str], None] = print) -> Path:
    """The labelled footage's folder; made once, so that an interrupted adaptation goes on from it."""
    folder = Path(options.out) / LABELS
    if not (folder / "people.json").exists():
        for video in filter(os.path.isfile, options.videos):
            check_readable(video)  # before the model is loaded, which takes seconds
        searcher = BundleSearcher(options.bundle)
        if options.detector:
            detect: Callable[[np.ndarray], np.ndarray] = DetectorTeacher(options.detector, 960, 0.3)
        else:  # its own finds: nothing new for the detector, but identities from tracks
            detect = lambda image: searcher.find([image])[0].boxes  # noqa: E731
        label_footage(
            options.videos, folder, detect, searcher.embed,
            every=options.every, max_frames=options.max_frames, held_out=options.held_out,
            across=options.across, travel=options.travel,
        )  # fmt: skip
    content = read_people(folder)
    people = sum(len(frame.people) for frame in content.images)
    identities = {p.identity for frame in content.images for p in frame.people} - {None}
    note(f"footage: {len(content.images)} frames, {people} people, {len(identities)} tracks, "
         f"{len({q.identity for q in content.queries})} of them new in the held-out part")  # fmt: skip
    if people < LEAST_PEOPLE or not content.queries:
        raise DataError(
            f"too little to adapt to: expected at least {LEAST_PEOPLE} sightings, and people who appear for the first "
            f"time in the held-out part, got {people} and {len(content.queries)}; give longer footage, a larger "
            "--held-out, or a smaller --every"
        )
    if options.across:
        where: dict[int, set[int]] = {}
        for frame in content.images:
            for person in frame.people:
                where.setdefault(person.identity or 0, set()).add(frame.camera)
        linked = sum(len(cameras) > 1 for identity, cameras in where.items() if identity)
        test = load_json(folder, "test")
        pairs = answerable(test.queries, test.images, other_cameras(test.queries, test.images))
        note(f"across cameras: {linked} people linked, {pairs} queries of the held-out part have one in another camera")
        if not pairs:
            raise DataError(
                "nobody of the held-out part was linked across cameras: expected new people who are seen in two of the "
                "sources; give longer footage of the same hours, a larger --held-out, or leave --across out"
            )
    return folder


def settings_for(options: AdaptOptions, folder: Path) -> TrainSettings:
    """The bundle's own model on the footage: gentle, with the detector left as it is."""
    weights = Path(options.bundle) / WEIGHTS
    if not weights.is_file():
        raise BundleError(f"{weights}: missing; adapting needs a bundle that was exported with --with-weights")
    trained = checkpoint_settings(load_checkpoint(weights), weights)
    data = {
        "workers": 1,
        "one_camera": options.across,  # ProtoNorm's statistics are those of one camera, in every step
        "train": [{"format": "json", "root": str(folder)}],
        "test": {"format": "json", "root": str(folder)},
        "augment": {
            "flip": 0.5, "zoom": [0.7, 1.5], "colour": 0.5, "degrade": 0.3, "occlude": 0.3,
            "recolour_people": 0.2, "mix_people": 0.2,
        },
    }  # fmt: skip
    return TrainSettings.model_validate({
        "out": options.out, "init": str(weights), "model": trained.model.model_dump(), "data": data,
        "loss": {"rpn": 0.0, "detection": 0.0, "identity": 0.2, "distillation": 1.0},
        "teacher": {
            "embedding": options.teacher or options.bundle, "boxes_per_image": 8,
            "direction": 0.0 if options.teacher else 1.0,  # the bundle alone speaks of people in its own space
        },
        "optimiser": {
            "kind": "adamw", "rate": options.rate, "detector_rate": 0.0, "weight_decay": 0.02,
            "batch": options.batch, "epochs": max(1, round(options.steps / STEPS_PER_EPOCH)),
            "steps_per_epoch": min(options.steps, STEPS_PER_EPOCH), "warmup_epochs": 0.5, "schedule": "cosine",
            "clip_norm": 5.0, "amp": "auto",
        },
        "evaluate_every": 0,
    })  # fmt: skip


def measure(searcher: Searcher, folder: Path, min_score: float) -> dict[str, float]:
    """Figures on the held-out part, against the teachers' labels."""
    data = load_json(folder, "test")
    run = run_model(
        searcher, data.images, data.queries, read_image, min_score=min(0.05, min_score),
        progress=lambda steps: tqdm(steps, desc="held-out part", unit="batch", leave=False),
    )  # fmt: skip
    figures = score_run(run, data.images, data.queries, min_score=min_score).figures()
    chosen = {name: figures[name] for name in ("mAP", "top-1", "re-ID mAP", "re-ID top-1", "detection AP")}
    elsewhere = other_cameras(data.queries, data.images)
    seen = [i for i, q in enumerate(data.queries) if answerable([q], data.images, [elsewhere[i]])]
    if seen:  # whoever is in one camera only could not be found in another
        moved = centred_run(run, data.images, data.queries)
        asked, galleries = [data.queries[i] for i in seen], [elsewhere[i] for i in seen]
        moved = replace(moved, queries=moved.queries[seen])
        chosen[ACROSS] = score_run(moved, data.images, asked, galleries=galleries).re_id.mean_ap
    return {**chosen, "cosine of different people": cosine_of_different_people(run, data.images)}


def adapt(options: AdaptOptions, note: Callable[[str], None] = print) -> int:
    """Label, measure, take the footage's statistics, fine-tune, average with the start, measure each, name the best.

    Returns 0, or 130 if the user stopped it.
    """
    folder = label(options, note)
    settings = settings_for(options, folder)
    out, min_score = Path(options.out), settings.model.roi.min_score

    def measured(kind: str) -> dict[str, float]:
        return _remembered(out / f"{REPORT}-{kind}.json", lambda: measure(TorchSearcher(network), folder, min_score))

    network, content = load_network(settings.init)
    figures = {"before": measured("before")}
    recentre(network, load_json(folder, "train"))
    save_checkpoint(out / "statistics.pth", content | {"model": network.state_dict()})
    figures["statistics"] = measured("statistics")
    if options.steps:
        trainer = Trainer(settings, resume=(out / "last.pth").exists())
        if not trainer.run():
            note(f"stopped at step {trainer.step} of {trainer.total_steps}; the same command goes on from there")
            return 130
        trained, content = _averaged(out, options.share, folder)
        save_checkpoint(out / "trained.pth", content)
        figures["trained"] = measure(TorchSearcher(trained), folder, min_score)
    goal = ACROSS if options.across else "mAP"
    best = max(list(figures)[1:], key=lambda kind: figures[kind][goal])
    lines = ["| held-out part of the footage | " + " | ".join(figures) + " |", "|---" * (1 + len(figures)) + "|"]
    lines += [
        f"| {name} | " + " | ".join(f"{column[name]:.3f}" for column in figures.values()) + " |"
        for name in figures["before"]
    ]
    export = f"personsearch-export {out / best}.pth --with-weights"
    verdict = (
        f"better ({best}): export it with `{export}`, and enrol people anew"
        if figures[best][goal] > figures["before"][goal]
        else "not better on people it was not trained on: keep the bundle as it is, or give longer footage"
    )
    text = "\n".join(lines)
    note(f"{text}\n{verdict}")
    links = "Across cameras they are the links that the bundle made itself, which flatters *before*.\n"
    report = (
        f"# Adaptation of {options.bundle}\n\nLabels are the teachers' own: the figures compare models, as no "
        f"benchmark.\n{links if options.across else ''}*statistics*: only ProtoNorm's mean and variance are the "
        f"footage's; *trained*: fine-tuned and averaged with the start as well.\n\n{text}\n\nThe adapted model is "
        f"{verdict}.\n"
    )
    replace_file(out / f"{REPORT}.md", report.encode())
    return 0


def _averaged(out: Path, share: float, folder: Path) -> tuple[PersonSearch, dict[str, Any]]:
    """The network between the start and the end of the run, with the statistics of the footage."""
    content = blend(out / "start.pth", out / "last.pth", share)
    if share < 1 and not content["config"]["model"]["freeze_norms"]:  # of a frozen network only the last norm moves
        renew_statistics(content, STATISTICS)
    network = build_network(content, out)
    recentre(network, load_json(folder, "train"))
    return network, content | {"model": network.state_dict()}


def _remembered(file: Path, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What the file says; made and written first where it is missing, so that an interrupted run goes on."""
    if not file.exists():
        replace_file(file, json.dumps(make()).encode())
    try:
        content = parse_json(file.read_bytes(), finite=False)
        return {str(name): float(value) for name, value in content.items()}
    except (ValueError, TypeError, AttributeError):
        raise DataError(f"{file}: not the figures of a measurement; remove it to measure again") from None
