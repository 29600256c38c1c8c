"""The whole way with real processes, files and sockets: train, export, enrol, stream, subscribe."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import onnx
import pytest
import torch
import yaml
from conftest import REPOSITORY, assert_user_error, call, liven, run

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import BundleError, GalleryError
from personsearch.core.street.street import Street, StreetSettings
from personsearch.export.fold import fold
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import load_gallery, save_gallery
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import ModelSettings


@pytest.mark.parametrize(
    "model",
    [
        {"height": 96, "width": 160},
        {"backbone": "resnet50", "height": 96, "width": 160, "conv5_protonorm": True, "rpn": {"kind": "anchors"}},
        {"height": 96, "width": 160, "identity": {"norm": "batchnorm"}},
    ],
)
def test_folding_is_exact_in_float64_and_leaves_no_normalisation(model: dict) -> None:
    torch.manual_seed(0)
    network = PersonSearch(ModelSettings.model_validate(model))
    liven(network)
    network.double().eval()
    folded = fold(network)
    x = torch.randn(3, network.stem.roi_channels, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        difference = (network.embed(network.head(x)) - folded.embed(folded.head(x))).abs().max()
    assert difference < 1e-11
    assert not [m for m in folded.modules() if type(m).__name__ in ("BatchNorm2d", "BatchNorm1d", "ProtoNorm")]


def test_bundle_holds_parity_and_a_static_graph(shipped_bundle: Path) -> None:
    manifest = read_manifest(shipped_bundle)
    rows = json.loads((shipped_bundle / "parity.json").read_text())
    exact = [row for row in rows if row["engine"].endswith("fp32")]
    assert exact
    assert all(row["cosine_p1"] > 0.999 and row["people"] > 0 for row in exact)
    graph = onnx.load(str(shipped_bundle / "model.onnx")).graph
    assert not {n.op_type for n in graph.node} & {"If", "Loop", "NonMaxSuppression", "NonZero", "BatchNormalization"}
    assert [o.name for o in graph.output] == ["boxes", "scores", "embeddings", "count"]
    assert manifest.thresholds


def test_a_changed_bundle_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="hash"):
        read_manifest(copy)
    with pytest.raises(BundleError, match="not a bundle"):
        read_manifest(tmp_path)


def test_wrong_checkpoints_are_explained(tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    for name in ("cut.pth", "other.pth", "none.pth"):
        assert_user_error(call("export/to_trt.py", tmp_path / name, "--out", tmp_path / "b"), name)
    assert not (tmp_path / "b").exists()


def test_gallery_is_bound_to_its_model_and_never_pickled(tmp_path: Path) -> None:
    gallery = Gallery("a" * 16, 4)
    gallery.add("Ada", EnrolledView(np.array([1, 0, 0, 0])))
    gallery.add("Ada", EnrolledView(np.array([0, 1, 0, 0])))
    save_gallery(gallery, tmp_path / "g")
    again = load_gallery(tmp_path / "g", "a" * 16, 4)
    assert again.embeddings.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert (tmp_path / "g").stat().st_mode & 0o077 == 0
    with pytest.raises(GalleryError, match="enrol anew"):
        load_gallery(tmp_path / "g", "b" * 16, 4)
    np.savez(tmp_path / "evil.npz", format=np.array([{}], dtype=object))
    with pytest.raises(GalleryError, match="not a readable gallery"):
        load_gallery(tmp_path / "evil.npz", "a" * 16, 4)


@pytest.fixture(scope="module")
def street_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A video file of the street, a picture of one person in it, and that person's box."""
    folder = tmp_path_factory.mktemp("video")
    street = Street(StreetSettings(seed=7, people=5, cameras=3, identities=15))
    video = cv2.VideoWriter(str(folder / "street.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 384))
    frames = [street.frame(1, n) for n in range(40)]
    for frame in frames:
        video.write(frame.image)
    video.release()
    clearest = int(np.argmax(frames[10].visible))
    x1, y1, x2, y2 = frames[10].boxes[clearest]
    cv2.imwrite(str(folder / "person.png"), frames[10].image)
    return folder / "street.avi", folder / "person.png", f"{x1:.0f},{y1:.0f},{x2 - x1:.0f},{y2 - y1:.0f}"


def test_enrol_stream_and_subscribe_with_the_shipped_model(street_files, shipped_bundle, tmp_path: Path) -> None:
    video, picture, box = street_files
    gallery = tmp_path / "people.gallery"
    given = ("--image", picture, "--box", box, "--keep-crops", "--label", "staff")
    enrolled = run("runtime/enroll.py", "--gallery", gallery, "--name", "Ada", *given)
    assert enrolled.returncode == 0, enrolled.stderr
    shown = call("runtime/enroll.py", "--gallery", gallery, "--show", "Ada").stdout
    assert all(words in shown for words in ("Ada\t1 view", "[staff]", "person.png, picture kept")), shown
    several = call("runtime/enroll.py", "--gallery", gallery, "--name", "Bo", "--image", picture)
    assert_user_error(several, "people found", "--box")
    cams = tmp_path / "cams.yaml"
    port = "tcp://127.0.0.1:55917"
    cams.write_text(yaml.safe_dump({
        "cameras": [{"name": "file", "url": str(video), "end": "loop"}], "publish": {"endpoint": port},
        "gallery": str(gallery), "box": "test",
    }))  # fmt: skip
    stream = subprocess.Popen(
        [sys.executable, "runtime/stream.py", "--cams", str(cams), "--record", str(tmp_path / "rec")],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        heard = run(
            "runtime/subscribe.py", "--connect", port, "--topic", "match.", "--json", "--count", 2, "--timeout", 300
        )
        assert_user_error(call("runtime/stream.py", "--cams", cams), "cannot publish")
        stream.send_signal(signal.SIGTERM)
        output, log = stream.communicate(timeout=30)
    finally:
        stream.kill()
    assert stream.returncode == 0, log
    assert "total:" in output
    events = [json.loads(line) for line in heard.stdout.splitlines()]
    assert len(events) == 2, log
    schema = json.loads((REPOSITORY / "runtime" / "delivery" / "event.schema.json").read_text())
    for event in events:
        jsonschema.validate(event, schema)
        assert event["person"] == "Ada"
    assert events[1]["sequence"] > events[0]["sequence"]
    (video,) = (tmp_path / "rec").glob("file.*.mp4")
    assert cv2.VideoCapture(str(video)).read()[0]
    assert call("runtime/enroll.py", "--gallery", gallery, "--remove", "Ada").returncode == 0
    assert_user_error(call("runtime/stream.py", "--cams", cams), "nobody is enrolled")


def test_an_unopenable_camera_ends_with_one_line(tmp_path: Path, shipped_bundle: Path) -> None:
    manifest = read_manifest(shipped_bundle)
    gallery = Gallery(manifest.model_hash, manifest.dimensions)
    gallery.add("Ada", EnrolledView(np.eye(manifest.dimensions)[0]))
    save_gallery(gallery, tmp_path / "g")
    cams = tmp_path / "cams.yaml"
    for url, word in (
        (str(tmp_path / "none.avi"), "no such file"),
        ("rtsp://u:secret@127.0.0.1:9/x", "cannot be opened"),
    ):
        endpoint = {"endpoint": "tcp://127.0.0.1:*"}
        cams.write_text(yaml.safe_dump({"cameras": [{"name": "a", "url": url}], "publish": endpoint}))
        result = call("runtime/stream.py", "--cams", cams, "--gallery", tmp_path / "g")
        assert_user_error(result, word)
        assert "secret" not in result.stderr + result.stdout


def test_the_runtime_never_imports_torch() -> None:
    code = (
        "import sys, personsearch.runtime.stream, personsearch.runtime.pipeline, personsearch.runtime.enroll, "
        "personsearch.runtime.demo, personsearch.core.evaluation\n"
        "bad = [m for m in sys.modules if m.split('.')[0] == 'torch' or m.startswith(('personsearch.train', "
        "'personsearch.export'))]\nassert not bad, bad"
    )
    assert run("-c", code).returncode == 0
