"""ONNX Runtime finds people by the part of the graph that finds them."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from personsearch.core.bundle import MODEL, OUTPUTS
from personsearch.core.engines.onnx_cut import cut_graph
from personsearch.core.engines.onnxruntime import FOUND, OnnxRuntimeEngine
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import EngineError
from personsearch.export.graph_stats import graph_stats
from personsearch.export.parity import sample_frames


def test_finding_with_onnx_runtime_is_what_detecting_finds_without_the_head(
    shipped_bundle: Path, tmp_path: Path
) -> None:
    whole, part = shipped_bundle / MODEL, tmp_path / "part.onnx"
    part.write_bytes(cut_graph(whole.read_bytes(), FOUND))
    onnx.checker.check_model(onnx.load(str(part)))
    head = {stage for stage in graph_stats(whole).products if stage.startswith("head")}
    assert head
    assert not head & set(graph_stats(part).products)
    assert part.stat().st_size < 0.6 * whole.stat().st_size
    searcher = BundleSearcher(shipped_bundle, "onnxruntime")
    (frame,) = sample_frames(count=1)
    (found,), (detected,) = searcher.find([frame]), searcher.detect([frame])
    assert len(found) > 3
    assert np.array_equal(found.boxes, detected.boxes)
    assert np.array_equal(found.scores, detected.scores)


def test_a_graph_cut_at_all_its_outputs_is_the_whole_graph(shipped_bundle: Path) -> None:
    whole = onnx.load(str(shipped_bundle / MODEL))
    again = onnx.load_from_string(cut_graph((shipped_bundle / MODEL).read_bytes(), OUTPUTS))
    assert [node.name for node in again.graph.node] == [node.name for node in whole.graph.node]
    assert list(again.graph.initializer) == list(whole.graph.initializer)
    assert list(again.graph.output) == list(whole.graph.output)
    assert again.opset_import == whole.opset_import


def test_a_graph_that_is_none_is_one_line_of_error(shipped_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(shipped_bundle, tmp_path / "bundle")
    engine = OnnxRuntimeEngine(bundle)
    (bundle / MODEL).write_bytes(b"\xff" * 40)  # the file goes bad before everybody is described for the first time
    for broken in (lambda: engine.infer(np.zeros((1, 384, 640, 3), np.uint8)), lambda: OnnxRuntimeEngine(bundle)):
        with pytest.raises(EngineError, match="onnxruntime cannot load") as raised:
            broken()
        assert "\n" not in str(raised.value)


def test_a_start_loads_and_warms_what_a_box_asks_for_and_no_more(
    shipped_bundle: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Describing everybody in an empty canvas was nine tenths of a start."""
    asked: list[tuple[str, tuple[str, ...]]] = []
    run = OnnxRuntimeEngine._run

    def watched(engine: OnnxRuntimeEngine, name: str, outputs: tuple[str, ...], inputs: dict) -> list[np.ndarray]:
        asked.append((name, outputs))
        return run(engine, name, outputs, inputs)

    monkeypatch.setattr(OnnxRuntimeEngine, "_run", watched)
    for bundle, outputs in ((shipped_bundle, FOUND), (tiny_bundle, OUTPUTS)):
        searcher = BundleSearcher(bundle, "onnxruntime")
        assert isinstance(searcher.engine, OnnxRuntimeEngine)
        assert list(searcher.engine._sessions) == [(MODEL, outputs)] == asked
        asked.clear()
