"""TensorRT for RTX really parses and builds the graphs, for GPUs that are not here; nothing is executed."""

import json
import shutil
from itertools import product
from pathlib import Path

import onnx
import pytest
import torch
from conftest import REPOSITORY, assert_user_error, call
from onnx import TensorProto, helper

from personsearch.core.bundle import MODEL, read_manifest
from personsearch.core.config import load_settings
from personsearch.core.engines.tensorrt_library import (
    NoTensorRT,
    TensorRT,
    engine_name,
    find_engine,
    has_gpu,
    load_tensorrt,
)
from personsearch.core.errors import EngineError
from personsearch.core.preprocess import Letterbox
from personsearch.export.deploy import DeployGraph
from personsearch.export.engine_files import EngineOptions, add_engines
from personsearch.export.fold import fold
from personsearch.export.onnx_writer import write_onnx
from personsearch.export.parity import sample_frames
from personsearch.export.precision import write_half
from personsearch.export.quantise import write_int8
from personsearch.export.tensorrt_builder import BuildOptions, build_engine, build_target
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import TrainSettings
from personsearch.train.weights.checkpoint import load_network

HASH, OTHER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def rtx() -> TensorRT:
    try:
        return load_tensorrt("rtx")
    except NoTensorRT as reason:
        pytest.skip(str(reason))


class Graphs:
    """The graphs of a network by precision, each written when it is first asked for."""

    def __init__(self, network: PersonSearch, folder: Path, frames: int) -> None:
        graph, self._folder = DeployGraph(fold(network)), folder
        images = torch.zeros(1, *network.canvas, 3, dtype=torch.uint8)
        self._full = folder / "fp32.onnx"
        write_onnx(
            graph, (images,), self._full, input_names=["images"],
            output_names=("boxes", "scores", "embeddings", "count"), inner_names=graph.inner,
        )  # fmt: skip
        self._letterbox, self._frames = Letterbox(*network.canvas), frames

    def __getitem__(self, precision: str) -> Path:
        path = self._folder / f"{precision}.onnx"
        if not path.exists() and precision == "fp16":
            write_half(self._full, path)
        elif not path.exists():
            write_int8(self._full, path, [self._letterbox(f)[0] for f in sample_frames(count=self._frames)])
        return path


@pytest.fixture(scope="module")
def edge_graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    network, _ = load_network(REPOSITORY / "models" / "edge" / "weights.pth")
    return Graphs(network, tmp_path_factory.mktemp("edge"), frames=2)


@pytest.mark.parametrize(
    ("precision", "target"),
    [
        ("fp16", "SM86"),  # what an RTX machine is given
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in product(("fp32", "int8"), ("SM86", "SM89"))),
        pytest.param("fp16", "SM89", marks=pytest.mark.slow),
    ],
)
def test_edge_graphs_build_for_gpus_that_are_not_here(
    rtx: TensorRT, edge_graphs: Graphs, precision: str, target: str
) -> None:
    phases: dict[str, tuple[int, int]] = {}
    warnings: list[str] = []

    def progress(phase: str, done: int, total: int) -> None:
        phases[phase] = (done, total)

    options = BuildOptions(target, note=warnings.append, progress=progress)
    engine = build_engine(rtx, edge_graphs[precision], options)
    assert len(engine) > 1_000_000
    assert phases
    assert all(done == total for done, total in phases.values()), phases
    assert not [text for text in warnings if "error" in text.lower()]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_paper_graphs_build_too(rtx: TensorRT, tmp_path: Path, precision: str) -> None:
    """ResNet-50 at 900x1500 with 300 proposals, random weights."""
    settings = load_settings(REPOSITORY / "configs" / "paper.yaml", TrainSettings)
    torch.manual_seed(0)
    graphs = Graphs(PersonSearch(settings.model).eval(), tmp_path, frames=1)
    for target in ("SM86", "SM89"):
        assert len(build_engine(rtx, graphs[precision], BuildOptions(target))) > 10_000_000


def test_a_graph_that_cannot_be_parsed_names_the_node(rtx: TensorRT, tmp_path: Path) -> None:
    nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"], name="/head/strange")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    (tmp_path / "strange.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="/head/strange"):
        build_engine(rtx, tmp_path / "strange.onnx", BuildOptions("SM89"))
    (tmp_path / "cut.onnx").write_bytes(model.SerializeToString()[:20])
    with pytest.raises(EngineError, match="cannot parse"):
        build_engine(rtx, tmp_path / "cut.onnx", BuildOptions("SM89"))
    with pytest.raises(EngineError, match="cannot be read"):
        build_engine(rtx, tmp_path / "none.onnx", BuildOptions("SM89"))


def test_a_graph_without_fixed_shapes_is_refused(rtx: TensorRT, tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="r")], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(tmp_path / "free.onnx"))
    with pytest.raises(EngineError, match="no fixed shape"):
        build_engine(rtx, tmp_path / "free.onnx", BuildOptions("SM89"))


def test_unknown_targets_list_the_known_ones(rtx: TensorRT) -> None:
    assert build_target(rtx, "sm86") == "sm86"
    with pytest.raises(EngineError, match="SM86"):
        build_target(rtx, "SM12345")


def test_engines_are_found_by_graph_version_and_gpu_only() -> None:
    fits = engine_name("model.fp16.onnx", HASH, "rtx-1.7.1", "SM89")
    assert fits == f"model.fp16.sm89.rtx-1.7.1.{'a' * 16}.engine"
    assert find_engine([fits, "model.onnx"], "model.fp16.onnx", HASH, "rtx-1.7.1", "sm89") == fits
    for graph, graph_hash, tag, gpu, words in (
        ("model.fp16.onnx", HASH, "rtx-1.7.1", "sm86", "is for GPU sm89, this one is sm86"),
        ("model.fp16.onnx", HASH, "rtx-1.8.0", "sm89", "was built by rtx-1.7.1, installed is rtx-1.8.0"),
        ("model.fp16.onnx", HASH, "trt-1.7.1", "sm89", "was built by rtx-1.7.1"),
        ("model.fp16.onnx", OTHER, "rtx-1.7.1", "sm89", "belongs to another graph"),
        ("model.onnx", HASH, "rtx-1.7.1", "sm89", "no TensorRT engine for model.onnx"),
        ("model.int8.onnx", HASH, "rtx-1.7.1", "sm89", "no TensorRT engine"),
    ):
        with pytest.raises(EngineError, match=words) as raised:
            find_engine([fits], graph, graph_hash, tag, gpu)
        assert "personsearch-export" in str(raised.value)


def test_stale_engines_are_replaced_and_current_ones_kept(rtx: TensorRT, tiny_bundle: Path, tmp_path: Path) -> None:
    if has_gpu():
        pytest.skip("with a GPU the default target differs")
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    before = read_manifest(bundle)
    for path in bundle.glob("*.engine"):
        path.unlink()
    stale = bundle / engine_name(MODEL, OTHER, rtx.tag, "sm89")
    foreign = bundle / engine_name(MODEL, OTHER, "trt-10.9", "sm90")  # another machine's: not ours to judge
    for path in (stale, foreign):
        path.write_bytes(b"old")
    notes: list[str] = []
    assert add_engines(bundle, EngineOptions(target="SM89"), notes.append)
    current = bundle / engine_name(MODEL, before.files[MODEL].sha256, rtx.tag, "sm89")
    assert current.stat().st_size > 100_000
    assert not stale.exists()
    assert foreign.exists()
    stamp = current.stat().st_mtime_ns
    assert add_engines(bundle, EngineOptions(target="SM89"), notes.append)
    assert current.stat().st_mtime_ns == stamp
    assert any("up to date" in note for note in notes)


def test_a_bundles_engines_are_rebuilt_in_place(rtx: TensorRT, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    result = call("export/to_trt.py", bundle, "--target", "SM86")
    assert result.returncode == 0, result.stdout + result.stderr
    after = read_manifest(bundle)
    engines = [name for name in after.files if name.endswith(".engine")]
    assert len(engines) == 2  # the model and the embedding graph
    assert all(".sm86." in name for name in engines)
    assert after.model_hash == read_manifest(tiny_bundle).model_hash
    data = bytearray((bundle / MODEL).read_bytes())
    data[99] ^= 1
    (bundle / MODEL).write_bytes(data)
    assert_user_error(call("export/to_trt.py", bundle, "--target", "SM86"), "hash differs")
    assert json.loads((bundle / "manifest.json").read_text())["name"] == after.name


def test_without_a_library_the_bundle_stays_complete(tiny_bundle: Path) -> None:
    notes: list[str] = []
    assert not add_engines(tiny_bundle, EngineOptions(build=False), notes.append)
    assert notes == ["engine skipped: --engine no"]
