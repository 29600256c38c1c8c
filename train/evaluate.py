#!/usr/bin/env python
"""Score a checkpoint or a bundle: `python train/evaluate.py --model CKPT_OR_BUNDLE --data ROOT --format prw`.

--dump FILE.npz writes for each test frame NAME__boxes (N, 4) xyxy in original pixels, NAME__scores (N,),
NAME__emb (N, D), and `queries` (Q, D) in the order of query_info.txt, so that other code can score it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from personsearch.core.errors import UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint (.pth) or a bundle (folder)")
    parser.add_argument("--data", default="", help="root of the data set; not needed for --format street")
    parser.add_argument("--format", choices=("prw", "json", "street"), default="prw")
    parser.add_argument("--seed", type=int, default=0, help="seed of the street")
    parser.add_argument("--dump", default="", metavar="FILE.npz", help="write detections and embeddings")
    parser.add_argument("--engine", default="auto", help="inference engine for a bundle")
    parser.add_argument(
        "--min-score", type=float, default=None, help="detections for search (default: the model's own)"
    )
    parser.add_argument("--min-gap", type=int, default=0, help="also score galleries at least so many frames away")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    arguments = parser.parse_args()
    from tqdm import tqdm

    from personsearch.core.evaluation import Searcher, run_model, score_run
    from personsearch.core.metrics import not_within
    from personsearch.train.samples import load_split, read_image
    from personsearch.train.settings import SourceSettings

    data = load_split(SourceSettings(format=arguments.format, root=arguments.data, seed=arguments.seed), "test")
    if not data.images or not data.queries:
        raise UserError(
            f"{arguments.data}: the test split has {len(data.images)} images and {len(data.queries)} queries"
        )
    searcher: Searcher
    if Path(arguments.model).is_dir():
        from personsearch.core.engines import BundleSearcher

        searcher = BundleSearcher(arguments.model, arguments.engine)
        working_point = searcher.manifest.min_score
    else:
        from personsearch.train.checkpoint import load_network
        from personsearch.train.torch_searcher import TorchSearcher

        network, _ = load_network(arguments.model)
        searcher, working_point = TorchSearcher(network), network.settings.roi.min_score
    min_score = working_point if arguments.min_score is None else arguments.min_score
    run = run_model(
        searcher, data.images, data.queries, read_image, min_score=min(0.01, min_score),
        progress=lambda steps: tqdm(steps, desc="evaluate", unit="batch", leave=False),
    )  # fmt: skip
    if arguments.dump:
        run.save(arguments.dump)
    figures = score_run(run, data.images, data.queries, min_score=min_score).figures()
    if arguments.min_gap:
        galleries = not_within(data.queries, data.images, arguments.min_gap)
        far = score_run(run, data.images, data.queries, min_score=min_score, galleries=galleries).figures()
        figures[f"mAP, {arguments.min_gap}+ frames away"] = far["mAP"]
    print(f"{len(data.queries)} queries, {len(data.images)} images, detections with score >= {min_score}")
    for name, value in figures.items():
        print(f"{name:24s} {value:.3f}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
