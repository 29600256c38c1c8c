#!/usr/bin/env python
"""Score a checkpoint or a bundle: `python train/evaluate.py --model CKPT_OR_BUNDLE --data ROOT --format prw`.

Prints search, re-ID and detection figures, with 95 % confidence intervals of mAP and top-1 by bootstrap over the
queries. CUHK-SYSU: one row per gallery size, or --subset; PRW: --multi-view adds galleries without the query's camera.
Where no query has its person in its gallery (--multi-view with one camera), it is "not defined here" (JSON: null).

--dump FILE.npz writes for each test frame NAME__boxes (N, 4) xyxy in original pixels, NAME__scores (N,),
NAME__emb (N, D), and `queries` (Q, D) in the order of query_info.txt, so that other code can score it.

--format crops: DIR holds pictures of people from several cameras (PERSON/CAMERA_VIEW.jpg or PERSON_CAMERA.jpg). Half of
the people are enrolled from one camera, all are looked for in another (docs/recognition.md). --model may also be a
re-identification network (.xml, .onnx); --dump writes embeddings (N, D), people, cameras and views (N,).
tests/names_across.py measures the same from streams.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.core.commands import command_line, within
from personsearch.core.errors import UserError, run_main
from personsearch.core.resources import here_or_shipped

if TYPE_CHECKING:
    from personsearch.core.evaluation import Run, Searcher
    from personsearch.train.data.prw import SearchData
    from personsearch.train.scoring.pictures import Match

SEARCH_FIGURES = ("mAP", "top-", "re-ID")
CONTEXT = {"cuhk": (10, 3)}  # CBGM's k1 and k2
CONTEXT_OTHERWISE = (30, 4)


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument(
        "--model", required=True, type=here_or_shipped, help="a checkpoint (.pth), a published model or a bundle"
    )
    parser.add_argument("--data", default="", help="root of the data set; not needed for --format street")
    parser.add_argument("--format", choices=("prw", "cuhk", "json", "street", "crops"), default="prw")
    parser.add_argument("--subset", choices=("Occlusion", "Resolution"), default="", help="cuhk: hard queries only")
    parser.add_argument("--seed", type=int, default=0, help="seed of the street")
    parser.add_argument("--dump", default="", metavar="FILE.npz", help="write detections and embeddings")
    parser.add_argument("--engine", default="auto", help="inference engine for a bundle")
    parser.add_argument(
        "--min-score", type=float, default=None, help="detections for search (default: the model's own)"
    )
    parser.add_argument(
        "--min-gap", type=within(int, 0), default=0, help="also score galleries at least so many frames away"
    )
    parser.add_argument("--multi-view", action="store_true", help="also score galleries of the other cameras")
    parser.add_argument("--cbgm", action="store_true", help="also score with context bipartite graph matching")
    parser.add_argument(
        "--cbgm-gain", choices=("largest", "sum"), default="largest",
        help="what a matched detection scores: the match's largest pair (as released, default) or the sum of its pairs",
    )  # fmt: skip
    parser.add_argument("--draw", type=int, action="append", default=[], metavar="N", help="draw query N's retrieval")
    parser.add_argument(
        "--against",
        type=here_or_shipped,
        default=None,
        metavar="MODEL",
        help="a second model: its matches are drawn above the first one's (Fig. 6)",
    )
    parser.add_argument(
        "--gains",
        type=within(int, 0),
        default=0,
        metavar="N",
        help="draw the N queries that gain most over --against",
    )
    parser.add_argument(
        "--failures",
        type=within(int, 0),
        default=0,
        metavar="N",
        help="draw the N worst queries and the N worst frames",
    )
    parser.add_argument("--draw-to", default="runs/retrieval", metavar="DIR", help="folder for the pictures")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    arguments = parser.parse_args()
    if arguments.format == "crops":
        return score_crops(arguments, parser)
    from tqdm import tqdm

    from personsearch.core.evaluation import cosine_of_different_people, run_model, score_run
    from personsearch.core.files import replace_file
    from personsearch.core.metrics import answerable, not_within, other_cameras
    from personsearch.core.search_pool import at_least
    from personsearch.train.data.cuhk import FULL, GALLERY_SIZES, gallery_names
    from personsearch.train.data.samples import load_split, read_image
    from personsearch.train.scoring.cbgm import ContextMatching
    from personsearch.train.settings import SourceSettings

    if arguments.gains and not arguments.against:
        raise UserError("--gains needs --against: the model that the queries gain over")
    if arguments.subset and arguments.format != "cuhk":
        raise UserError("--subset needs --format cuhk")
    if arguments.seed < 0:
        raise UserError(f"--seed: expected 0 or more, got {arguments.seed}")
    source = SourceSettings(
        format=arguments.format, root=arguments.data, seed=arguments.seed, gallery=FULL, subset=arguments.subset
    )
    data = load_split(source, "test")
    if not data.images or not data.queries:
        raise UserError(
            f"{arguments.data}: the test split has {len(data.images)} images and {len(data.queries)} queries"
        )
    for number in arguments.draw:
        if not 0 <= number < len(data.queries):
            raise UserError(f"--draw {number}: queries are numbered 0 to {len(data.queries) - 1}")
    searcher, working_point = open_model(arguments.model, arguments.engine)
    min_score = working_point if arguments.min_score is None else arguments.min_score

    def run_of(model: Searcher, working_point: float) -> Run:
        return run_model(
            model, data.images, data.queries, read_image, min_score=min(0.01, working_point),
            progress=lambda steps: tqdm(steps, desc="evaluate", unit="batch", leave=False),
        )  # fmt: skip

    run = run_of(searcher, min_score)
    if arguments.dump:
        run.save(arguments.dump)

    def score(galleries: Any = None, rerank: Any = None) -> Any:
        return score_run(run, data.images, data.queries, min_score=min_score, galleries=galleries, rerank=rerank)

    by_size = arguments.format == "cuhk" and not arguments.subset
    default = gallery_names(arguments.data, 100) if by_size else data.galleries
    report = score(default)
    figures: dict[str, float | None] = {**report.figures()}
    if not answerable(data.queries, data.images, default):
        figures |= dict.fromkeys(name for name in figures if name.startswith(SEARCH_FIGURES))
    variants: dict[str, tuple[Any, Any]] = {}
    if by_size:
        variants |= {f"gallery {n}": (gallery_names(arguments.data, n), None) for n in GALLERY_SIZES if n != 100}
        variants["gallery full"] = (None, None)
    if arguments.multi_view:
        variants["multi-view"] = (other_cameras(data.queries, data.images), None)
    if arguments.min_gap:
        variants[f"{arguments.min_gap}+ frames away"] = (
            not_within(data.queries, data.images, arguments.min_gap),
            None,
        )
    if arguments.cbgm:
        best, companions = CONTEXT.get(arguments.format, CONTEXT_OTHERWISE)
        found = {name: at_least(detections, min_score) for name, detections in run.found.items()}
        gain = arguments.cbgm_gain
        variants["CBGM"] = (default, ContextMatching(data.queries, run.queries, found, best, companions, gain))
    for name, (galleries, rerank) in variants.items():
        defined = answerable(data.queries, data.images, galleries)
        other = score(galleries, rerank).figures() if defined else {}
        figures |= {f"{key}, {name}": other.get(key) for key in ("mAP", "top-1")}
    print(f"{len(data.queries)} queries, {len(data.images)} images, detections with score >= {min_score}")
    intervals, different = report.search.intervals(), cosine_of_different_people(run, data.images)
    for name, value in figures.items():
        if value is None:
            print(f"{name:26s} not defined here: no query's person is in its gallery")
            continue
        note = "  [{:.3f}, {:.3f}]".format(*intervals[name]) if name in intervals else ""
        print(f"{name:26s} {value:.3f}{note}")
    print(f"{'cosine of different people':26s} {different:.3f}")
    worst = report.search.average_precision.argsort(kind="stable")[: arguments.failures].tolist()
    runs, gains = {_title(arguments.model): (run, min_score)}, []
    if arguments.against:
        other, point = open_model(arguments.against, arguments.engine)
        point = point if arguments.min_score is None else arguments.min_score
        first = run_of(other, point)
        name = _title(arguments.against)
        name = f"{name} (before)" if name in runs else name
        runs = {name: (first, point), **runs}
        before = score_run(first, data.images, data.queries, min_score=point, galleries=default)
        gained = report.search.average_precision - before.search.average_precision
        print(f"{'mAP, ' + name:26s} {before.search.mean_ap:.3f}")
        gains = (-gained).argsort(kind="stable")[: arguments.gains].tolist()
    for number in [*arguments.draw, *worst, *gains]:
        print(draw(data, runs, number, default, Path(arguments.draw_to)))
    for path in draw_failures(data, run, min_score, arguments.failures, Path(arguments.draw_to)):
        print(path)
    if arguments.json:
        content = {**figures, "95 % interval": intervals, "cosine of different people": different}
        replace_file(arguments.json, f"{json.dumps(content, indent=1)}\n".encode())
    return 0


def score_crops(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Identification with unknown people across cameras, plain and centred."""
    others = ("subset", "seed", "min_score", "min_gap", "multi_view", "cbgm", "draw", "failures", "against", "gains")
    for name in others:
        if getattr(arguments, name) != parser.get_default(name):
            raise UserError(f"--{name.replace('_', '-')} has no meaning with --format crops; leave it out")
    if not arguments.data:
        raise UserError("--format crops needs --data: the folder of the pictures")
    from tqdm import tqdm

    from personsearch.core.files import replace_file
    from personsearch.train.data.crops import describe, load_crops
    from personsearch.train.scoring.across_cameras import identification_rows, table
    from personsearch.train.teaching.teacher import EmbeddingTeacher

    crops = load_crops(arguments.data)
    network = Path(arguments.model).suffix in (".xml", ".onnx")
    if network:
        embed: Any = EmbeddingTeacher(str(arguments.model))
    else:
        embed = open_model(arguments.model, arguments.engine)[0].embed
    sightings = describe(tqdm(crops, desc="describe", unit="picture", leave=False), embed)
    if arguments.dump:
        sightings.save(arguments.dump)
    try:
        rows = identification_rows(sightings)
    except ValueError as error:
        raise UserError(f"{arguments.data}: {error}") from None
    print(f"{len(set(sightings.people))} people, {len(set(sightings.cameras))} cameras, {len(crops)} pictures")
    print(table(rows))
    if arguments.json:
        content = {name: {**row.figures(), "95 % interval": row.intervals()} for name, row in rows.items()}
        replace_file(arguments.json, f"{json.dumps(content, indent=1)}\n".encode())
    return 0


def open_model(path: Path, engine: str) -> tuple[Searcher, float]:
    """A bundle or a checkpoint as a searcher, and its detector's working point."""
    from personsearch.train.weights.published import is_published

    if path.is_dir() and not is_published(path):
        from personsearch.core.engines.searcher import BundleSearcher

        bundle = BundleSearcher(path, engine)
        return bundle, bundle.manifest.min_score
    from personsearch.train.model.torch_searcher import TorchSearcher
    from personsearch.train.weights.checkpoint import load_network

    network, _ = load_network(path)
    return TorchSearcher(network), network.settings.roi.min_score


def _title(model: Path) -> str:
    """What a model is called in pictures: runs/paper/last.pth is `paper/last`."""
    return f"{model.parent.name}/{model.stem}".removeprefix("/")


def draw(
    data: SearchData, runs: dict[str, tuple[Run, float]], number: int, galleries: list[list[str]] | None, folder: Path
) -> Path:
    """The ten best matches of a query as a picture, a row for each model's run at its working point."""
    from personsearch.train.scoring.pictures import draw_retrieval

    allowed = galleries[number] if galleries is not None else None
    rankings = {name: _matches(data, run, number, score, allowed) for name, (run, score) in runs.items()}
    query = data.queries[number]
    truth = next(image for image in data.images if image.name == query.image)
    return draw_retrieval((truth, query.box), rankings, folder / f"query_{number}.jpg")


def _matches(data: SearchData, run: Run, number: int, min_score: float, gallery: list[str] | None) -> list[Match]:
    from personsearch.core.search_pool import SearchPool

    query = data.queries[number]
    pool = SearchPool(data.images, run.found, run.queries.shape[1], min_score)
    values = run.queries[number] @ pool.embeddings.T
    allowed = pool.allowed(query, gallery)
    values[~allowed[pool.image_of]] = float("-inf")
    hits, _ = pool.hits(query, values, allowed)
    order = [i for i in (-values).argsort(kind="stable")[:10] if allowed[pool.image_of[i]]]
    return [
        (data.images[pool.image_of[i]], pool.boxes[i], float(values[i]), bool((hits == i).any())) for i in order
    ]  # fmt: skip


def draw_failures(data: SearchData, run: Run, min_score: float, count: int, folder: Path) -> list[Path]:
    """The frames with most missed people and false alarms."""
    from personsearch.core.search_pool import at_least
    from personsearch.train.scoring.pictures import detection_failures, draw_detections

    found = [at_least(run.found[t.name], min_score) for t in data.images]
    errors = [sum(map(len, detection_failures(t, f))) for t, f in zip(data.images, found, strict=True)]
    worst = sorted(range(len(errors)), key=lambda i: -errors[i])[:count]
    names = [folder / f"frame_{Path(data.images[i].name).stem}.jpg" for i in worst]
    return [draw_detections(data.images[i], found[i], name) for i, name in zip(worst, names, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
