"""From a checkpoint to a bundle: graphs, precisions, gates, thresholds, engines; written at once or not at all."""

from __future__ import annotations

import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from personsearch.core.bundle import (
    EMBED,
    MODEL,
    OUTPUTS,
    Manifest,
    Threshold,
    check_place,
    graph_file,
    sha256_of,
    write_bundle,
)
from personsearch.core.errors import BundleError, EngineError, UserError
from personsearch.core.files import read_file
from personsearch.core.json_text import parse_json
from personsearch.core.odds import Odds
from personsearch.core.openvino_core import computes_bf16
from personsearch.core.preprocess import Letterbox
from personsearch.export.charts import draw_parity
from personsearch.export.deploy import DeployGraph, EmbedGraph
from personsearch.export.engine_files import EngineOptions, add_engines
from personsearch.export.fold import fold
from personsearch.export.gates import Gate, find_data, is_data_set, judge, measure
from personsearch.export.onnx_writer import halve_weights, round_weights, write_onnx
from personsearch.export.parity import sample_frames
from personsearch.export.precision import write_half
from personsearch.export.quantise import write_int8
from personsearch.export.scoring import cached_image
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.torch_searcher import TorchSearcher
from personsearch.train.weights.checkpoint import load_network, save_weights
from personsearch.train.weights.published import weights_file

COMPLETE, REFUSED, ENGINE_SKIPPED = 0, 1, 3
EMBED_BOXES, PARITY_FRAMES = 8, 12
DATA_FRAMES = 48  # test frames for the gates, and frames for thresholds
EXACT_DATA_FRAMES = 24  # test frames where all runs in float32: parity judges it, and its accuracy is only told
CANDIDATES = 1000  # the static graph's NMS is quadratic in them; the official preset has 6000
PARITY, PARITY_PLOT, WEIGHTS = "parity.json", "parity.png", "weights.pth"


@dataclass(frozen=True)
class ExportOptions:
    """What `to_trt.py --help` explains; empty texts mean the synthetic street or a default."""

    checkpoint: str
    out: str = ""
    name: str = ""
    batch: int = 1
    proposals: int = 0
    size: tuple[int, int] | None = None  # of the canvas, (height, width)
    half_weights: bool = True
    precisions: tuple[str, ...] = ()  # besides fp32
    frames: str = ""
    calibrate: str = ""
    calibrate_count: int = 300
    split: str = "train"
    data: str = ""
    data_frames: int = 0  # 0: see DATA_FRAMES and EXACT_DATA_FRAMES
    max_loss: float = 0.5
    accept_loss: bool = False
    odds: str = ""
    training_data: tuple[str, ...] = ()
    licence: str = ""
    with_weights: bool = False
    engine: EngineOptions = field(default_factory=EngineOptions)


def export_checkpoint(options: ExportOptions, note: Callable[[str], None] = print) -> int:
    """Write the bundle. Returns COMPLETE, ENGINE_SKIPPED, or REFUSED (nothing written).

    Raises UserError; the folder then still holds the previous bundle, or nothing.
    """
    if options.batch < 1:
        raise UserError("--batch must be at least 1")
    for option, path in (("--calibrate", options.calibrate), ("--data", options.data), ("--frames", options.frames)):
        if path and not Path(path).exists():
            raise UserError(f"{option} {path}: not found; nothing was written")
    network, content = load_network(
        options.checkpoint, size=options.size, proposals=options.proposals, candidates=CANDIDATES
    )
    name = options.name or Path(content["config"]["out"]).name
    out = check_place(options.out or f"out/{name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.new-", dir=out.parent) as work:
            return _export(network, content, name, out, Path(work), options, note)
    except OSError as error:
        raise BundleError(
            f"{out}: cannot be written ({error.strerror or error}); nothing was changed, free the space or choose "
            "another folder with --out"
        ) from None


def _export(
    network: PersonSearch, content: dict, name: str, out: Path, work: Path, options: ExportOptions,
    note: Callable[[str], None],
) -> int:  # fmt: skip
    staging = work / "bundle"
    staging.mkdir()
    note("writing the graphs")
    _write_graphs(network, staging, work, options, note)
    reference = TorchSearcher(network)
    labelled = options.calibrate if is_data_set(options.calibrate) else ""
    calibration, source = find_data(labelled, options.split, options.data_frames or DATA_FRAMES)
    min_score = network.settings.roi.min_score
    manifest = {
        **_description(network, name, options),
        "training_data": options.training_data, "licence": options.licence, "odds": _odds(options.odds),
        "calibration": source,
    }  # fmt: skip
    # The bundle is checked where it will be used: through its own manifest and engines.
    trial = work / "trial"
    shutil.copytree(staging, work / "copy")
    write_bundle(trial, work / "copy", manifest)
    exact = not options.precisions and not computes_bf16()
    test_frames = options.data_frames or (EXACT_DATA_FRAMES if exact else DATA_FRAMES)
    data, data_name = find_data(options.data, "test", test_frames)
    gates, by_engine = measure(
        reference,
        trial,
        sample_frames(options.frames, min(PARITY_FRAMES, test_frames)),
        data,
        calibration,
        min_score,
        note,
        (lambda: TorchSearcher(_rounded(network))) if options.half_weights else None,
    )
    shutil.rmtree(trial)
    if not gates:
        raise EngineError("no inference engine is installed to check the export with; install personsearch[cpu]")
    problem, avoid = judge(gates, options.max_loss, options.accept_loss)
    if problem:
        print(f"refused: {problem}; no bundle was written", file=sys.stderr)
        return REFUSED
    for engine in avoid:
        note(f"{engine} loses more than {options.max_loss:g} mAP points: `auto` will not choose it")
    manifest["thresholds"] = [t.model_dump() for t in _general(gates, by_engine)]
    manifest["engine_thresholds"] = {engine: [t.model_dump() for t in rows] for engine, rows in by_engine.items()}
    manifest["avoid"] = avoid
    rows = [{**gate.to_json(), "data": data_name} for gate in gates]
    (staging / PARITY).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    draw_parity(rows, staging / PARITY_PLOT)
    if options.with_weights:
        save_weights(staging / WEIGHTS, network, content["config"])
    status = COMPLETE if add_engines(staging, options.engine, note) else ENGINE_SKIPPED
    staging.chmod(0o755)
    written = write_bundle(out, staging, manifest)
    size = sum(entry.bytes for entry in written.files.values())
    note(f"bundle {out}: {len(written.files)} files, {size / 1e6:.1f} MB, model {written.model_hash}")
    return status


def _general(gates: Sequence[Gate], by_engine: dict[str, list[Threshold]]) -> list[Threshold]:
    """Thresholds for engines that this machine does not have: those of an exact engine.

    ONNX Runtime's before others, because it cuts people out of the canvas, as TensorRT does.
    """
    exact = sorted((g.engine for g in gates if g.precision == "fp32"), key=lambda name: "onnxruntime" not in name)
    return next((by_engine[name] for name in exact if by_engine.get(name)), [])


def _rounded(network: PersonSearch) -> PersonSearch:
    """With weights as they are stored in halves."""
    folded = fold(network)
    round_weights(folded)
    return folded


def _write_graphs(
    network: PersonSearch, folder: Path, work: Path, options: ExportOptions, note: Callable[[str], None]
) -> None:
    folded = fold(network)
    height, width = network.canvas
    images = torch.zeros(options.batch, height, width, 3, dtype=torch.uint8)
    rois = torch.tensor([[[0.0, 0.0, 32.0, 64.0]] * EMBED_BOXES])
    graph = DeployGraph(folded)
    exact = work / MODEL  # weights in float32: what the other precisions are made from
    write_onnx(graph, (images,), exact, input_names=["images"], output_names=OUTPUTS, inner_names=graph.inner)
    write_onnx(
        EmbedGraph(folded), (images[:1], rois), work / EMBED, input_names=["images", "rois"],
        output_names=["embeddings"],
    )  # fmt: skip
    for name in (MODEL, EMBED):
        halve_weights(work / name, folder / name) if options.half_weights else shutil.copy(work / name, folder)
    if "fp16" in options.precisions:
        write_half(exact, folder / graph_file("fp16"))
    if "int8" in options.precisions:
        letterbox = Letterbox(height, width)
        frames = _calibration_frames(options)
        wide = work / "int8.onnx"
        number = write_int8(exact, wide, [letterbox(f)[0] for f in frames], batch=options.batch)
        note(f"int8: {number} convolutions, ranges from {len(frames)} frames of {options.calibrate or 'the street'}")
        halve_weights(wide, folder / graph_file("int8"))


def write_plain_bundle(
    weights: str, folder: Path, *, batch: int = 1, proposals: int = 0, size: tuple[int, int] | None = None,
    precisions: tuple[str, ...] = (),
) -> Manifest:  # fmt: skip
    """The graphs of a checkpoint without gates and thresholds, int8 from a few frames: for measuring speed only."""
    network, content = load_network(weights, size=size, proposals=proposals, candidates=CANDIDATES)
    options = ExportOptions(weights, batch=batch, precisions=precisions, calibrate_count=4)
    with tempfile.TemporaryDirectory(prefix=".plain-", dir=folder.parent) as work:
        staging = Path(work) / "bundle"
        staging.mkdir()
        _write_graphs(network, staging, Path(work), options, print)
        return write_bundle(folder, staging, _description(network, Path(content["config"]["out"]).name, options))


def _description(network: PersonSearch, name: str, options: ExportOptions) -> dict:
    """What the manifest says of every bundle."""
    settings = network.settings
    return {
        "name": name,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "height": network.canvas[0], "width": network.canvas[1], "batch": options.batch,
        "dimensions": settings.identity.dimensions,
        "detections": settings.rpn.test_proposals, "embed_boxes": EMBED_BOXES,
        "min_score": settings.roi.min_score, "score": settings.roi.score,
        # Whoever is recognised on pixels of his own, and found without the head, can be described when it matters.
        "describe": "demand" if settings.roi.head == "omniscale" and settings.roi.score == "rpn" else "all",
        "checkpoint_sha256": sha256_of(weights_file(options.checkpoint)),
    }  # fmt: skip


def _odds(path: str) -> dict | None:
    """What a file says that similarities are worth, checked."""
    if not path:
        return None
    try:
        return Odds.model_validate(parse_json(read_file(path, 16 << 20))).model_dump(mode="json")
    except OSError as error:
        raise UserError(f"--odds {path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"--odds {path}: {str(error).splitlines()[0]}; see docs/measurements/odds-edge.json") from None


def _calibration_frames(options: ExportOptions) -> list[np.ndarray]:
    """Frames for int8's ranges; of a labelled data set only those of the chosen split."""
    if not is_data_set(options.calibrate):
        return sample_frames(options.calibrate, options.calibrate_count)
    data, _ = find_data(options.calibrate, options.split, options.calibrate_count)
    return [cached_image(truth) for truth in data.images]
