"""fp16 and int8 graphs, the gates, and what the manifest keeps of them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import REPOSITORY, assert_user_error, call, run

from personsearch.core.bundle import MODEL, Manifest, Threshold, graph_file, read_manifest
from personsearch.core.engines.choice import BACKENDS, ENGINES, load_engine, split_choice
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import EngineError
from personsearch.core.openvino_core import computes_bf16
from personsearch.export.calibrate import calibrate_thresholds
from personsearch.export.exporter import write_plain_bundle
from personsearch.export.fold import fold
from personsearch.export.gates import Gate, find_data, judge, measure
from personsearch.export.graph_stats import graph_stats
from personsearch.export.onnx_writer import round_weights
from personsearch.export.parity import MIN_SCORE, Parity, compare, sample_frames
from personsearch.export.precision import DELICATE, heavy_nodes
from personsearch.export.quantise import write_int8
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.torch_searcher import TorchSearcher
from personsearch.train.weights.checkpoint import load_network, save_checkpoint

SENSITIVE = {"Softmax", "Exp", "Log", "ReduceL2", "TopK"}


@pytest.fixture(scope="module")
def precise_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every precision; a network of random weights needs --accept-loss for int8."""
    out = tmp_path_factory.mktemp("precise") / "bundle"
    options = ("--engine", "no", "--accept-loss", "--data-frames", 8, "--calibrate-count", 6, "--with-weights")
    result = call(
        "export/to_trt.py", tiny_checkpoint, "--out", out, "--precision", "fp16", "--precision", "int8", *options
    )
    assert result.returncode == 3, result.stdout + result.stderr
    return out


@pytest.fixture(scope="module")
def graphs(tiny_bundle: Path, precise_bundle: Path) -> dict[str, Path]:
    """What one checkpoint was exported to, by precision; `stored` computes in float32, as `fp32` does."""
    files = {"stored": graph_file("fp32"), "fp16": graph_file("fp16"), "int8": graph_file("int8")}
    return {"fp32": tiny_bundle / MODEL, **{name: precise_bundle / file for name, file in files.items()}}


def types_of(path: Path) -> dict[str, int]:
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    values = (*model.graph.value_info, *model.graph.output, *model.graph.input)
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8", "stored"])
def test_every_graph_is_static_and_has_no_normalisation_left(graphs: dict[str, Path], name: str) -> None:
    stats = graph_stats(graphs[name])
    assert stats.normalisations == 0
    assert not set(stats.nodes) & {"If", "Loop", "Scan", "NonMaxSuppression", "NonZero", "RoiAlign"}
    for output in onnx.load(str(graphs[name])).graph.output:
        assert all(d.dim_value > 0 for d in output.type.tensor_type.shape.dim), output.name
    assert stats.total == graph_stats(graphs["fp32"]).total


def test_half_graph_keeps_the_delicate_operations_in_float32(graphs: dict[str, Path]) -> None:
    types, model = types_of(graphs["fp16"]), onnx.load(str(graphs["fp16"]))
    half = onnx.TensorProto.FLOAT16
    assert graph_stats(graphs["fp16"]).halved > 0.9 * graph_stats(graphs["fp16"]).nodes["Conv"]
    for node in model.graph.node:
        if node.op_type in SENSITIVE:
            assert types[node.input[0]] != half, node.name
        if node.op_type == "Gemm" and node.name.startswith(("/person", "/box")):
            assert types[node.output[0]] != half
    assert all(output.type.tensor_type.elem_type != half for output in model.graph.output)


def test_nothing_that_decodes_or_compares_boxes_is_called_heavy(graphs: dict[str, Path]) -> None:
    model = onnx.load(str(graphs["fp32"]))
    heavy = heavy_nodes(model)
    for node in model.graph.node:
        if node.name in heavy:
            assert node.op_type not in DELICATE | {"GatherElements", "Trilu", "Greater", "Where"}, node.name
    assert sum(node.op_type == "Conv" for node in model.graph.node) == sum(
        node.op_type == "Conv" and node.name in heavy for node in model.graph.node
    )


def test_int8_graph_quantises_dense_inner_convolutions_with_float_biases(graphs: dict[str, Path]) -> None:
    model = onnx.load(str(graphs["int8"]))
    makers = {output: node for node in model.graph.node for output in node.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    quantised = [
        node for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in makers and makers[node.input[1]].op_type == "DequantizeLinear"
    ]  # fmt: skip
    assert len(quantised) >= 10
    for node in quantised:
        assert not node.name.startswith(("/rpn/person", "/rpn/box.", "/rpn/objectness"))
        assert all(a.i == 1 for a in node.attribute if a.name == "group")
        assert makers[node.input[0]].op_type == "DequantizeLinear"
        kernel = makers[node.input[1]]
        assert weights[kernel.input[0]].data_type == onnx.TensorProto.INT8
        assert len(weights[kernel.input[1]].dims) == 1  # a scale for each output channel
        assert node.input[2] not in makers or makers[node.input[2]].op_type != "DequantizeLinear"


def test_int8_refuses_no_frames_and_unknown_methods(graphs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_int8(graphs["fp32"], tmp_path / "x.onnx", [])
    with pytest.raises(ValueError, match="method must be one of"):
        write_int8(graphs["fp32"], tmp_path / "x.onnx", [np.zeros((96, 160, 3), np.uint8)], method="best")
    assert not (tmp_path / "x.onnx").exists()


def test_precisions_agree_with_float32_on_the_shipped_model(shipped_bundle: Path) -> None:
    """fp16 and bf16 keep people and embeddings; measured on the street."""
    frames = sample_frames(count=2)
    exact = BundleSearcher(shipped_bundle, "onnxruntime")
    fast = BundleSearcher(shipped_bundle, "openvino-bf16")
    parity = compare(exact.detect(frames, MIN_SCORE), fast, frames)
    assert parity.people > 5
    assert parity.matched > 0.9
    assert parity.cosine_mean > 0.97
    assert parity.iou_mean > 0.9


def test_bundle_holds_every_precision_its_parity_and_its_thresholds(precise_bundle: Path) -> None:
    manifest = read_manifest(precise_bundle)
    assert {"model.onnx", "model.fp16.onnx", "model.int8.onnx", "embed.onnx", "parity.json"} <= set(manifest.files)
    rows = json.loads((precise_bundle / "parity.json").read_text())
    assert {row["precision"] for row in rows} == {"fp32", "fp16", "int8"} | ({"bf16"} if computes_bf16() else set())
    for row in rows:
        assert {"mean_ap", "mean_ap_change", "top1_change", "detection_ap_change", "cosine_p1", "iou_mean"} <= set(row)
    assert set(manifest.engine_thresholds) <= {row["engine"] for row in rows}


@pytest.mark.parametrize("engine", ["openvino-fp32", "openvino-int8", "onnxruntime-fp16", "onnxruntime-int8"])
def test_engines_run_the_graph_of_their_precision(precise_bundle: Path, engine: str) -> None:
    searcher = BundleSearcher(precise_bundle, engine)
    assert searcher.engine.name.endswith(engine.rpartition("-")[2])
    assert searcher.detect([]) == []
    frames = sample_frames(count=2)
    waiting = [searcher.submit([frame]) for frame in frames]
    answers = [later.result(timeout=60) for later in waiting]  # `detect` must not run beside them
    for frame, (found,) in zip(frames, answers, strict=True):
        (again,) = searcher.detect([frame])
        assert np.array_equal(found.boxes, again.boxes)
        assert np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-3)


def test_submitted_work_hands_its_error_to_the_caller(precise_bundle: Path) -> None:
    searcher = BundleSearcher(precise_bundle, "onnxruntime")
    with pytest.raises(ValueError, match="uint8"):
        searcher.submit([np.zeros((4, 4), np.float32)]).result(timeout=60)
    assert searcher.submit([np.zeros((40, 40, 3), np.uint8)]).result(timeout=60)


def test_engine_names_split_into_backend_and_precision() -> None:
    assert split_choice("onnxruntime-cuda-fp16") == ("onnxruntime-cuda", "fp16")
    assert split_choice("openvino") == ("openvino", "auto")
    for name in ENGINES[1:]:
        backend, precision = split_choice(name)
        assert precision in BACKENDS[backend]


@pytest.mark.parametrize(
    ("engine", "words"),
    [("fastest", "expected one of"), ("openvino-int8", "--precision int8"), ("tensorrt", "no NVIDIA GPU"),
     ("onnxruntime-cuda", "no CUDAExecutionProvider")],
)  # fmt: skip
def test_an_engine_that_cannot_run_is_an_error_not_a_fallback(tiny_bundle: Path, engine: str, words: str) -> None:
    if engine in ("tensorrt", "onnxruntime-cuda"):
        from personsearch.core.engines.tensorrt_library import has_gpu

        if has_gpu():
            pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match=words):
        load_engine(tiny_bundle, engine)


def gate(precision: str, loss: float, cosine: float = 1.0, matched: float = 1.0) -> Gate:
    parity = Parity(3, 9, matched, 0.1, 1.0, 1.0, 0.0, cosine, cosine)
    return Gate(f"some-cpu-{precision}", precision, parity, 0.5, 0.5, 0.5, -loss / 100, 0.0, 0.0)


def test_gates_refuse_what_loses_too_much() -> None:
    assert judge([gate("fp32", 0.0), gate("fp16", 0.4), gate("bf16", 0.4)], 0.5, False) == ("", ())
    assert "loses 0.60 mAP points" in judge([gate("int8", 0.6)], 0.5, False)[0]
    assert judge([gate("int8", 0.6)], 0.7, False)[0] == ""
    assert judge([gate("int8", 9.0)], 0.5, True)[0] == ""
    assert judge([gate("bf16", 0.6)], 0.5, False) == ("", ("some-cpu-bf16",))
    # A float32 engine that disagrees is a fault, which --accept-loss does not excuse.
    assert "differs from PyTorch" in judge([gate("fp32", 0.0, cosine=0.99)], 0.5, True)[0]
    assert "differs from PyTorch" in judge([gate("fp32", 0.0, matched=0.9)], 0.5, True)[0]


def test_rounding_that_changes_a_network_is_judged_by_what_it_costs() -> None:
    small, large = (replace(gate("fp32", loss), rounded=True) for loss in (0.4, 0.6))
    assert judge([small], 0.5, False) == ("", ())
    assert "cost 0.60 mAP points" in judge([large], 0.5, False)[0]
    assert "--weights fp32" in judge([large], 0.5, False)[0]
    assert judge([large], 0.5, True) == ("", ())
    # Beside PyTorch with the same weights there is no excuse.
    assert "differs from PyTorch" in judge([replace(small, parity=gate("fp32", 0.0, cosine=0.99).parity)], 0.5, True)[0]


def test_a_network_that_rounding_changes_is_compared_with_its_rounded_weights(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    network, content = load_network(tiny_checkpoint)
    with torch.no_grad():  # it sees people everywhere
        for parameter in (*network.rpn.person, *network.rpn.objectness, network.person):
            parameter.bias[-1:].add_(6)
    checkpoint, bundle = tmp_path / "sure.pth", tmp_path / "bundle"
    save_checkpoint(checkpoint, {"config": content["config"], "model": network.state_dict()})
    write_plain_bundle(str(checkpoint), bundle)
    other, _ = load_network(checkpoint)
    with torch.no_grad():
        other.projection.weight.copy_(other.projection.weight.flip(0))
    stored = fold(network)
    round_weights(stored)
    assert any(not torch.equal(a, b) for a, b in zip(stored.parameters(), fold(network).parameters(), strict=True))
    data, _ = find_data("", "test", 8)
    frames = sample_frames("", 2)

    def gate_of(reference: PersonSearch, rounded: PersonSearch | None) -> Gate:
        asked = (lambda: TorchSearcher(rounded)) if rounded is not None else None
        found, _ = measure(TorchSearcher(reference), bundle, frames, data, data, 0.05, lambda _: None, asked)
        return next(gate for gate in found if gate.engine == "onnxruntime-cpu-fp32")

    first = gate_of(other, stored)
    assert first.parity.people
    assert (first.rounded, first.exact) == (True, True)
    alone, wrong = gate_of(other, None), gate_of(other, other)
    assert (alone.rounded, alone.exact, wrong.exact) == (False, False, False)


def test_auto_avoids_an_engine_that_lost_too_much(precise_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(precise_bundle, copy)
    content = json.loads((copy / "manifest.json").read_text())
    content["avoid"] = ["openvino-cpu-bf16"]
    (copy / "manifest.json").write_text(json.dumps(content))
    assert load_engine(copy, "openvino").name == "openvino-cpu-fp32"


def test_thresholds_are_the_engines_own_and_old_manifests_still_load(shipped_bundle: Path) -> None:
    content = json.loads((shipped_bundle / "manifest.json").read_text())
    for key in ("engine_thresholds", "avoid"):
        content.pop(key, None)
    manifest = Manifest.model_validate(content)
    general = manifest.threshold(0.01)
    assert manifest.threshold(0.01, "openvino-cpu-bf16") == general
    own = (Threshold(similarity=0.123, false_alarm_rate=0.01),)
    manifest = manifest.model_copy(update={"engine_thresholds": {"openvino-cpu-bf16": own}})
    assert manifest.threshold(0.01, "openvino-cpu-bf16") == 0.123
    assert manifest.threshold(0.01, "onnxruntime-cpu-fp32") == general


def test_a_processor_whose_bf16_is_hidden_runs_float32() -> None:
    """What the processor announces may not be had: in a virtual machine, or with this limit."""
    if not computes_bf16():
        pytest.skip("this processor has no bf16 that could be hidden")
    code = """
from personsearch.core.engines.choice import load_engine
import numpy as np
engine = load_engine("models/edge", "openvino")
print(engine.name, engine.find(np.zeros((1, 384, 640, 3), np.uint8))[1].shape[0])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )  # fmt: skip
    assert result.stdout.split() == ["openvino-cpu-fp32", "1"], result.stderr


@pytest.mark.parametrize("batches", [(2,), pytest.param((1, 2), marks=pytest.mark.slow)])
def test_inspect_and_bench_read_a_bundle_at_a_glance(
    precise_bundle: Path, tmp_path: Path, batches: tuple[int, ...]
) -> None:
    shown = run("export/inspect_bundle.py", precise_bundle)
    assert shown.returncode == 0, shown.stderr
    for word in ("model.int8.onnx", "0 normalisations", "multiply-adds", "similarity thresholds", "openvino-cpu-int8"):
        assert word in shown.stdout, word
    out = tmp_path / "bench.json"
    measured = run(
        "export/bench.py", precise_bundle, "--seconds", 0.2, "--out", out, "--batches", ",".join(map(str, batches)),
        "--engines", "openvino-fp32,pytorch-eager-fp32",
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [(row["engine"], row["batch"]) for row in rows] == [
        (name, batch) for batch in batches for name in ("openvino-cpu-fp32", "pytorch-eager-fp32")
    ]
    assert all(row["frames_per_second"] > 0 and row["memory_mb"] > 10 and row["peak_flops"] > 1e8 for row in rows)
    assert out.with_suffix(".png").stat().st_size > 1000
    assert_user_error(call("export/bench.py", precise_bundle, "--engines", "abacus"), "unknown engine 'abacus'")
    assert_user_error(call("export/bench.py", precise_bundle, "--batches", "two"), "expected numbers")
    assert_user_error(call("export/inspect_bundle.py", tmp_path), "not a bundle")


def test_thresholds_come_from_different_people_and_with_tracks_from_those_seen_together() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.96, 0.28], [0.6, 0.8]], np.float32)
    identities = np.array([1, 2, 3, -1])
    (threshold,) = calibrate_thresholds(rows, identities, rates=(0.0,))
    assert threshold.similarity == pytest.approx(0.96, abs=1e-3)  # 1 and 3; whoever has no identity says nothing
    # As tracks, 3 may be 1 again: only 2 was seen beside each of them.
    (threshold,) = calibrate_thresholds(rows, identities, np.array([0, 0, 1, 1]), rates=(0.0,))
    assert threshold.similarity == pytest.approx(0.0, abs=1e-3)
    rows, identities = np.concatenate([rows, rows[1:2]]), np.append(identities, 2)
    (threshold,) = calibrate_thresholds(rows, identities, np.array([0, 0, 1, 1, 1]), rates=(0.0,))
    assert threshold.similarity == pytest.approx(0.28, abs=1e-3)


@pytest.mark.parametrize("identities", [[], [-1, -1], [4, 4]])
def test_without_two_people_there_is_no_threshold(identities: list[int]) -> None:
    rows = np.eye(2, dtype=np.float32)[: len(identities)]
    assert calibrate_thresholds(rows, np.array(identities, int)) == []
    assert calibrate_thresholds(rows, np.array(identities, int), np.zeros(len(identities), int)) == []
