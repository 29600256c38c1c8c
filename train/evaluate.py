#!/usr/bin/env python
"""Score a checkpoint or a bundle: `python train/evaluate.py --model CKPT_OR_BUNDLE --data ROOT --format prw`.

Prints search, re-ID and detection figures, with 95 % confidence intervals of mAP and top-1 by bootstrap over the
queries. CUHK-SYSU: one row per gallery size, or --subset; PRW: --multi-view adds galleries without the query's camera.

--dump FILE.npz writes for each test frame NAME__boxes (N, 4) xyxy in original pixels, NAME__scores (N,),
NAME__emb (N, D), and `queries` (Q, D) in the order of query_info.txt, so that other code can score it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.core.errors import UserError, run_main

if TYPE_CHECKING:
    from personsearch.core.evaluation import Run, Searcher
    from personsearch.train.prw import SearchData

CONTEXT = {"cuhk": (10, 4)}  # CBGM's k1 and k2
CONTEXT_OTHERWISE = (30, 3)


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint (.pth) or a bundle (folder)")
    parser.add_argument("--data", default="", help="root of the data set; not needed for --format street")
    parser.add_argument("--format", choices=("prw", "cuhk", "json", "street"), default="prw")
    parser.add_argument("--subset", choices=("Occlusion", "Resolution"), default="", help="cuhk: hard queries only")
    parser.add_argument("--seed", type=int, default=0, help="seed of the street")
    parser.add_argument("--dump", default="", metavar="FILE.npz", help="write detections and embeddings")
    parser.add_argument("--engine", default="auto", help="inference engine for a bundle")
    parser.add_argument(
        "--min-score", type=float, default=None, help="detections for search (default: the model's own)"
    )
    parser.add_argument("--min-gap", type=int, default=0, help="also score galleries at least so many frames away")
    parser.add_argument("--multi-view", action="store_true", help="also score galleries of the other cameras")
    parser.add_argument("--cbgm", action="store_true", help="also score with context bipartite graph matching")
    parser.add_argument("--draw", type=int, action="append", default=[], metavar="N", help="draw query N's retrieval")
    parser.add_argument(
        "--failures",
        type=int,
        default=0,
        metavar="N",
        help="draw the N worst queries and the N worst frames",
    )
    parser.add_argument("--draw-to", default="runs/retrieval", metavar="DIR", help="folder for the pictures")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    arguments = parser.parse_args()
    from tqdm import tqdm

    from personsearch.core.evaluation import cosine_of_different_people, run_model, score_run
    from personsearch.core.metrics import not_within, other_cameras
    from personsearch.train.cbgm import ContextMatching
    from personsearch.train.cuhk import FULL, GALLERY_SIZES, gallery_names
    from personsearch.train.samples import load_split, read_image
    from personsearch.train.settings import SourceSettings

    if arguments.subset and arguments.format != "cuhk":
        raise UserError("--subset needs --format cuhk")
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
    run = run_model(
        searcher, data.images, data.queries, read_image, min_score=min(0.01, min_score),
        progress=lambda steps: tqdm(steps, desc="evaluate", unit="batch", leave=False),
    )  # fmt: skip
    if arguments.dump:
        run.save(arguments.dump)

    def score(galleries: Any = None, rerank: Any = None) -> Any:
        return score_run(run, data.images, data.queries, min_score=min_score, galleries=galleries, rerank=rerank)

    by_size = arguments.format == "cuhk" and not arguments.subset
    default = gallery_names(arguments.data, 100) if by_size else data.galleries
    report = score(default)
    figures = report.figures()
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
        variants["CBGM"] = (default, ContextMatching(data.queries, run.queries, run.found, best, companions))
    for name, (galleries, rerank) in variants.items():
        other = score(galleries, rerank).figures()
        figures |= {f"{key}, {name}": other[key] for key in ("mAP", "top-1")}
    print(f"{len(data.queries)} queries, {len(data.images)} images, detections with score >= {min_score}")
    intervals, different = report.search.intervals(), cosine_of_different_people(run, data.images)
    for name, value in figures.items():
        note = "  [{:.3f}, {:.3f}]".format(*intervals[name]) if name in intervals else ""
        print(f"{name:26s} {value:.3f}{note}")
    print(f"{'cosine of different people':26s} {different:.3f}")
    worst = report.search.average_precision.argsort(kind="stable")[: arguments.failures].tolist()
    for number in [*arguments.draw, *worst]:
        print(draw(data, run, number, min_score, default, Path(arguments.draw_to)))
    for path in draw_failures(data, run, min_score, arguments.failures, Path(arguments.draw_to)):
        print(path)
    if arguments.json:
        content = {**figures, "95 % interval": intervals, "cosine of different people": different}
        Path(arguments.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def open_model(path: str, engine: str) -> tuple[Searcher, float]:
    """A bundle or a checkpoint as a searcher, and its detector's working point."""
    if Path(path).is_dir():
        from personsearch.core.engines import BundleSearcher

        bundle = BundleSearcher(path, engine)
        return bundle, bundle.manifest.min_score
    from personsearch.train.checkpoint import load_network
    from personsearch.train.torch_searcher import TorchSearcher

    network, _ = load_network(path)
    return TorchSearcher(network), network.settings.roi.min_score


def draw(
    data: SearchData, run: Run, number: int, min_score: float, galleries: list[list[str]] | None, folder: Path
) -> Path:
    """The ten best matches of a query as a picture."""
    from personsearch.core.search_pool import SearchPool
    from personsearch.train.pictures import draw_retrieval

    query = data.queries[number]
    pool = SearchPool(data.images, run.found, run.queries.shape[1], min_score)
    values = run.queries[number] @ pool.embeddings.T
    allowed = pool.allowed(query, galleries[number] if galleries is not None else None)
    values[~allowed[pool.image_of]] = float("-inf")
    hits, _ = pool.hits(query, values, allowed)
    order = [i for i in (-values).argsort(kind="stable")[:10] if allowed[pool.image_of[i]]]
    ranking = [
        (data.images[pool.image_of[i]], pool.boxes[i], float(values[i]), bool((hits == i).any())) for i in order
    ]  # fmt: skip
    return draw_retrieval((data.images[pool.index[query.image]], query.box), ranking, folder / f"query_{number}.jpg")


def draw_failures(data: SearchData, run: Run, min_score: float, count: int, folder: Path) -> list[Path]:
    """The frames with most missed people and false alarms."""
    from personsearch.core.search_pool import at_least
    from personsearch.train.pictures import detection_failures, draw_detections

    found = [at_least(run.found[t.name], min_score) for t in data.images]
    errors = [sum(map(len, detection_failures(t, f))) for t, f in zip(data.images, found, strict=True)]
    worst = sorted(range(len(errors)), key=lambda i: -errors[i])[:count]
    names = [folder / f"frame_{Path(data.images[i].name).stem}.jpg" for i in worst]
    return [draw_detections(data.images[i], found[i], name) for i, name in zip(worst, names, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
