#!/usr/bin/env python
"""Export a checkpoint: `python export/to_trt.py CKPT.pth [--out DIR]` writes a bundle that needs no PyTorch.

Exit status: 0 bundle and TensorRT engine complete, 3 bundle complete but no engine could be built here,
1 parity failed (no bundle is written), 2 wrong input.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.errors import EngineError, UserError, run_main

if TYPE_CHECKING:
    from personsearch.core.bundle import Threshold
    from personsearch.core.evaluation import Searcher

COMPLETE, PARITY_FAILED, ENGINE_SKIPPED = 0, 1, 3
EMBED_BOXES = 8
# A float32 graph must agree with PyTorch to rounding; weights stored as float16 cost a little.
MIN_COSINE_P1, MIN_MATCHED = 0.999, 0.98


def main() -> int:
    return run_main(_main)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint of train/run.py")
    parser.add_argument("--out", default="", help="bundle folder (default: out/NAME beside the working directory)")
    parser.add_argument("--name", default="", help="name in the manifest (default: the run's name)")
    parser.add_argument("--batch", type=int, default=1, help="frames per inference call (default 1)")
    parser.add_argument("--proposals", type=int, default=0, help="people per frame at most (default: as trained)")
    parser.add_argument(
        "--weights", choices=("fp16", "fp32"), default="fp16", help="storage of the weights in the files"
    )
    parser.add_argument("--frames", default="", help="video or folder for the parity check (default: synthetic street)")
    parser.add_argument(
        "--calibrate", default="", help="data set for similarity thresholds (default: synthetic street)"
    )
    parser.add_argument("--format", choices=("prw", "json"), default="prw", help="layout of --calibrate")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="split of --calibrate")
    parser.add_argument(
        "--training-data", action="append", default=[], metavar="TEXT", help="source and licence, repeatable"
    )
    parser.add_argument("--licence", default="", help="licence of the weights")
    parser.add_argument(
        "--engine", choices=("auto", "no"), default="auto", help="build a TensorRT engine if one can be loaded"
    )
    parser.add_argument("--target", default="", help="TensorRT for RTX: GPU architecture, for example SM86")
    parser.add_argument("--with-weights", action="store_true", help="add weights.pth, a start for fine-tuning")
    return parser


def _main() -> int:
    arguments = _parser().parse_args()
    if arguments.batch < 1:
        raise UserError("--batch must be at least 1")
    from personsearch.core.bundle import MODEL, sha256_of, write_bundle
    from personsearch.export.parity import HEADER, compare_engines, sample_frames
    from personsearch.train.checkpoint import load_network, save_weights
    from personsearch.train.torch_searcher import TorchSearcher

    network, content = load_network(arguments.checkpoint)
    if arguments.proposals:
        rpn = network.settings.rpn.model_copy(update={"test_proposals": arguments.proposals})
        network.settings = network.settings.model_copy(update={"rpn": rpn})
    name = arguments.name or Path(content["config"]["out"]).name
    out = Path(arguments.out or f"out/{name}").resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    frames = sample_frames(arguments.frames)
    reference = TorchSearcher(network)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.new-", dir=out.parent))
    try:
        _write_graphs(network, staging, arguments.batch, arguments.weights == "fp16")
        manifest = {
            "name": name,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "height": network.canvas[0], "width": network.canvas[1], "batch": arguments.batch,
            "dimensions": network.settings.identity.dimensions,
            "detections": network.settings.rpn.test_proposals, "embed_boxes": EMBED_BOXES,
            "min_score": network.settings.roi.min_score, "score": network.settings.roi.score,
            "checkpoint_sha256": sha256_of(arguments.checkpoint),
            "training_data": arguments.training_data, "licence": arguments.licence,
        }  # fmt: skip
        thresholds, source = _thresholds(reference, arguments)
        manifest["thresholds"] = [t.model_dump() for t in thresholds]
        manifest["calibration"] = source
        # The bundle is checked where it will be used: through its own manifest and engines.
        trial = staging / ".trial"
        shutil.copytree(staging, trial, ignore=shutil.ignore_patterns(".trial"))
        checked = staging / ".checked"
        write_bundle(checked, trial, manifest)
        rows = compare_engines(reference, checked, frames)
        shutil.rmtree(checked)
        print(HEADER)
        for row in rows:
            print(row.row())
        if not rows:
            raise EngineError("no inference engine is installed to check the export with; install personsearch[cpu]")
        bad = [
            r
            for r in rows
            if r.engine.endswith("fp32") and ((r.people and r.cosine_p1 < MIN_COSINE_P1) or r.matched < MIN_MATCHED)
        ]
        if bad:
            print(f"failed: {bad[0].engine} differs from PyTorch; no bundle was written", file=sys.stderr)
            return PARITY_FAILED
        (staging / "parity.json").write_text(json.dumps([r.to_json() for r in rows], indent=1) + "\n", encoding="utf-8")
        if arguments.with_weights:
            save_weights(staging / "weights.pth", network, content["config"])
        status = _engine(staging, sha256_of(staging / MODEL)[:16], arguments)
        staging.chmod(0o755)  # mkdtemp's folders are private
        written = write_bundle(out, staging, manifest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    size = sum(entry.bytes for entry in written.files.values())
    print(f"bundle {out}: {len(written.files)} files, {size / 1e6:.1f} MB, model {written.model_hash}")
    return status


def _write_graphs(network, folder: Path, batch: int, half: bool) -> None:  # type: ignore[no-untyped-def]
    import torch

    from personsearch.core.bundle import EMBED, MODEL, OUTPUTS
    from personsearch.export.deploy import DeployGraph, EmbedGraph
    from personsearch.export.fold import fold
    from personsearch.export.onnx_writer import write_onnx

    folded = fold(network)
    height, width = network.canvas
    images = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    graph = DeployGraph(folded)
    write_onnx(
        graph, (images,), folder / MODEL,
        input_names=["images"], output_names=OUTPUTS, inner_names=graph.inner, half_weights=half,
    )  # fmt: skip
    rois = torch.tensor([[[0.0, 0.0, 32.0, 64.0]] * EMBED_BOXES])
    write_onnx(
        EmbedGraph(folded), (images[:1], rois), folder / EMBED,
        input_names=["images", "rois"], output_names=["embeddings"], half_weights=half,
    )  # fmt: skip


def _thresholds(searcher: Searcher, arguments: argparse.Namespace) -> tuple[list[Threshold], str]:
    import numpy as np

    from personsearch.export.calibrate import calibrate_thresholds
    from personsearch.train.samples import load_split, read_image
    from personsearch.train.settings import SourceSettings

    if arguments.calibrate:
        source = SourceSettings(format=arguments.format, root=arguments.calibrate)
        text = f"annotated people of {Path(arguments.calibrate).name}, {arguments.split} split"
    else:
        source = SourceSettings(format="street", seed=4, frames=160, identities=64)
        text = "synthetic street, seed 4"
    truths = load_split(source, arguments.split).images
    truths = [truths[i] for i in np.linspace(0, len(truths) - 1, min(300, len(truths))).astype(int)]
    embeddings = [searcher.embed(read_image(t), t.boxes) for t in truths if len(t.boxes)]
    identities = [t.identities for t in truths if len(t.boxes)]
    if not embeddings:
        return [], ""
    return calibrate_thresholds(np.concatenate(embeddings), np.concatenate(identities)), text


def _engine(folder: Path, model_hash: str, arguments: argparse.Namespace) -> int:
    from personsearch.core.bundle import MODEL
    from personsearch.export.tensorrt_builder import NoTensorRT, build_engine, engine_name, load_tensorrt

    if arguments.engine == "no":
        print("engine skipped: --engine no")
        return ENGINE_SKIPPED
    try:
        library = load_tensorrt()
    except NoTensorRT as reason:
        print(f"engine skipped: {reason}")
        return ENGINE_SKIPPED
    engine, target = build_engine(
        library, folder / MODEL, arguments.target, note=lambda text: print(f"tensorrt: {text}")
    )
    file = folder / engine_name(library, target, model_hash)
    file.write_bytes(engine)
    print(f"engine {file.name}: {len(engine) / 1e6:.1f} MB")
    return COMPLETE


if __name__ == "__main__":
    sys.exit(main())
