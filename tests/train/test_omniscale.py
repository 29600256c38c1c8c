"""The head on pooled pixels: published weights, folding, and engines that describe only the people who count."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import SHARED, tiny_config

from personsearch.core.bundle import MODEL, OUTPUTS
from personsearch.core.engines.canvas_part import filled_part
from personsearch.core.engines.choice import load_engine
from personsearch.core.engines.interface import Engine
from personsearch.core.errors import CheckpointError
from personsearch.core.openvino_core import openvino_core
from personsearch.core.street.street import Street, StreetSettings
from personsearch.export.deploy import DeployGraph
from personsearch.export.fold import fold
from personsearch.export.onnx_writer import write_onnx
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.osnet import OmniScaleHead
from personsearch.train.settings import ModelSettings
from personsearch.train.weights.checkpoint import checkpoint_settings, fill, load_checkpoint
from personsearch.train.weights.reid_weights import load_reid

ROI = {"head": "omniscale", "height": 64, "width": 32, "widths": [16, 64, 64], "min_score": 0.05}
TEACHER = SHARED / "models" / "person-reidentification-retail-0287.xml"


def model(**roi: object) -> dict:
    content = tiny_config(Path("unused"))["model"]
    return {**content, "roi": {**content["roi"], **ROI, **roi}}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_head_gives_one_vector_a_person(count: int) -> None:
    head = OmniScaleHead((64, 32), (16, 64, 64)).eval()
    assert head(torch.rand(count, 3, 64, 32) * 255).shape == (count, 64)


def test_gain_and_offset_of_a_camera_hardly_change_the_vector() -> None:
    torch.manual_seed(0)
    head = OmniScaleHead((64, 32), (16, 64, 64)).eval()
    picture = torch.rand(1, 3, 64, 32) * 100
    brighter = picture * torch.tensor([1.6, 1.2, 0.8]).view(1, 3, 1, 1) + 20
    assert torch.allclose(head(picture), head(brighter), rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not TEACHER.is_file(), reason="the published network (../shared) is not on this machine")
def test_published_weights_give_the_published_networks_vector() -> None:
    import openvino

    head, projection = OmniScaleHead((256, 128), (32, 128, 192, 256)).eval(), torch.nn.Linear(256, 256, bias=False)
    load_reid(head, projection, str(TEACHER))
    source = openvino_core().read_model(str(TEACHER))
    pooled = next(op for op in source.get_ordered_ops() if op.get_type_name() == "MatMul").input(0).get_source_output()
    part = openvino.Model([openvino.opset13.result(pooled)], source.get_parameters(), "part")
    engine = openvino_core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    picture = Street(StreetSettings(seed=1)).frame(0, 10).image
    blob = cv2.resize(picture, (128, 256)).transpose(2, 0, 1)[None].astype(np.float32)
    expected = engine([blob])[0].reshape(-1)
    with torch.no_grad():
        made = head(torch.from_numpy(blob))[0].numpy()
    assert np.abs(made - expected).max() < 1e-4
    other = OmniScaleHead((64, 32), (16, 64, 64))
    with pytest.raises(CheckpointError, match=r"model\.roi\.widths"):
        load_reid(other, torch.nn.Linear(64, 256, bias=False), str(TEACHER))


def test_a_missing_network_is_explained(tmp_path: Path) -> None:
    head = OmniScaleHead((64, 32), (16, 64, 64))
    (tmp_path / "net.xml").write_text("<net/>")
    with pytest.raises(CheckpointError, match="not a readable network"):
        load_reid(head, torch.nn.Linear(64, 32, bias=False), str(tmp_path / "net.xml"))


def test_sizes_that_the_head_cannot_take_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        ModelSettings.model_validate(model(height=60))


@pytest.fixture(scope="module", params=[{"score": "rpn"}, {"score": "fused"}, {"score": "fused", "embed": "refined"}])
def graph(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shipped_bundle: Path
) -> tuple[Path, PersonSearch]:
    """A folder with the model graph of the shipped weights with other settings, and that network. Its head sees people
    in a quarter of the pixels, and ten instead of 32, which is a twelfth of the work."""
    folder = tmp_path_factory.mktemp("omniscale")
    content = load_checkpoint(shipped_bundle / "weights.pth")
    settings = checkpoint_settings(content, "weights.pth").model
    roi = settings.roi.model_copy(update={**request.param, "height": 128, "width": 64})
    rpn = settings.rpn.model_copy(update={"test_proposals": 10})
    network = PersonSearch(settings.model_copy(update={"roi": roi, "rpn": rpn}))
    weights, pool = content["model"], "head.pool.weight"  # which weighs each place of the picture
    small = torch.nn.functional.adaptive_avg_pool2d(weights[pool], network.state_dict()[pool].shape[2:])
    fill(network, weights | {pool: small * weights[pool][0, 0].numel() / small[0, 0].numel()}, "weights.pth")
    network.eval()
    deployed = DeployGraph(fold(network))
    write_onnx(
        deployed, (torch.zeros(1, *network.canvas, 3, dtype=torch.uint8),), folder / MODEL,
        input_names=["images"], output_names=OUTPUTS, inner_names=deployed.inner,
    )  # fmt: skip
    return folder, network


@pytest.fixture(scope="module")
def engine(graph: tuple[Path, PersonSearch]) -> Engine:
    return load_engine(graph[0], "openvino-fp32")


def picture() -> np.ndarray:
    return Street(StreetSettings(seed=2, people=6)).frame(0, 5).image[None]


def test_the_graph_in_parts_says_what_the_network_says(graph: tuple[Path, PersonSearch], engine: Engine) -> None:
    _, network = graph
    boxes, scores, embeddings, count = engine.infer(picture())
    (expected,) = network.search(torch.from_numpy(picture()), 0.2)
    people = len(expected.boxes)
    assert 2 <= people <= int(count[0])
    assert np.allclose(boxes[0, :people], expected.boxes.numpy(), atol=0.1)
    assert np.allclose(scores[0, :people], expected.scores.numpy(), atol=5e-3)
    assert (embeddings[0, :people] * expected.embeddings.numpy()).sum(1).min() > 0.999


def test_leaving_out_weak_proposals_changes_nothing_for_the_others(
    graph: tuple[Path, PersonSearch], engine: Engine
) -> None:
    _, network = graph
    boxes, scores, embeddings, count = engine.infer(picture())
    wanted = float(np.median(scores[0, : int(count[0])]))
    least = {"rpn": wanted, "fused": wanted**2}[network.settings.roi.score]
    few = engine.infer(picture(), least)
    strong = int((scores[0, : int(count[0])] >= wanted).sum())
    assert 0 < strong < int(count[0])
    assert int((few[1][0, : int(few[3][0])] >= wanted).sum()) == strong
    assert np.allclose(few[0][0, :strong], boxes[0, :strong], atol=1e-2)
    assert (few[2][0, :strong] * embeddings[0, :strong]).sum(1).min() > 0.9999


def test_an_empty_picture_needs_no_description(engine: Engine) -> None:
    assert engine.infer(np.full((1, 384, 640, 3), 114, np.uint8), 1.0)[3].tolist() == [0]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ((384, 640), (384, 640)),
        ((1080, 1920), (384, 640)),  # 360 rows need 384
        ((480, 640), (384, 512)),
        ((370, 1224), (224, 640)),
        ((640, 360), (384, 224)),  # upright
        ((10, 1000), (384, 640)),  # a stripe: too few cells would be left
    ],
)
def test_the_part_of_the_canvas_that_a_frame_fills(frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert filled_part((384, 640), frame) == expected


@pytest.mark.parametrize("size", [(384, 512), (224, 640), (384, 224)])
def test_looking_at_the_filled_part_finds_the_same_people(engine: Engine, size: tuple[int, int]) -> None:
    height, width = size
    canvas = np.full((1, 384, 640, 3), 114, np.uint8)
    canvas[0, :height, :width] = picture()[0, :height, :width]
    frame = np.ascontiguousarray(canvas[0, :height, :width])
    whole, part = engine.infer(canvas, 0.4), engine.infer(canvas, 0.4, [(frame, 1.0)])
    count = int(whole[3][0])
    assert count == int(part[3][0]) >= 1
    (boxes, vectors), (others, other_vectors) = (
        (found[0][0, order], found[2][0, order])
        for found in (whole, part)
        for order in [found[0][0, :count, 0].argsort()]
    )  # from left to right: scores that are nearly the same may change places
    inside = (boxes[:, 2] < width - 40) & (boxes[:, 3] < height - 40)  # grey beyond was context
    assert inside.any()
    assert np.abs(boxes - others).max(1)[inside].max() < 1.5
    assert (vectors * other_vectors).sum(1)[inside].min() > 0.98
