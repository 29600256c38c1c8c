"""What export does with bad input, and that a bundle is replaced whole or not at all."""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import assert_user_error, call, liven

from personsearch.core.bundle import MODEL, read_manifest, sha256_of, write_bundle
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import BundleError, EngineError
from personsearch.export.exporter import write_plain_bundle
from personsearch.export.fold import fold
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import ModelSettings
from personsearch.train.weights.checkpoint import load_network


def snapshot(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


@pytest.mark.parametrize(
    "model",
    [
        {"height": 96, "width": 160},
        {"backbone": "resnet50", "height": 96, "width": 160, "rpn": {"kind": "anchors"}},
        {"backbone": "resnet50", "height": 96, "width": 160, "conv5_protonorm": True, "rpn": {"kind": "anchors"}},
        {"height": 96, "width": 160, "identity": {"norm": "batchnorm"}},
        {"height": 96, "width": 160, "identity": {"norm": "none"}},
    ],
    ids=["edge", "paper", "oimnet+++", "batchnorm", "no norm"],
)
def test_folding_changes_nothing_but_rounding(model: dict) -> None:
    """Stem, RPN and head; the difference is relative to the largest value."""
    torch.manual_seed(0)
    network = PersonSearch(ModelSettings.model_validate(model)).eval()
    liven(network)
    crops = torch.randn(2, network.stem.roi_channels, network.settings.roi.height, network.settings.roi.width)
    images = torch.rand(1, 3, 96, 160) * 255
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        network.to(dtype)
        folded, inputs = fold(network), (images.to(dtype), crops.to(dtype))
        with torch.no_grad():
            before, after = outputs_of(network, *inputs), outputs_of(folded, *inputs)
        for a, b in zip(before, after, strict=True):
            assert float((a - b).abs().max() / a.abs().max()) <= limit
        kinds = {type(module).__name__ for module in folded.modules()}
        assert not kinds & {"BatchNorm1d", "BatchNorm2d", "ProtoNorm", "FrozenBatchNorm2d"}


def outputs_of(network: PersonSearch, images: torch.Tensor, crops: torch.Tensor) -> list[torch.Tensor]:
    head = network.head(crops)
    return [*network.stem(images)[0], head, network.embed(head)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04 cut short", "it is cut short or damaged"),
        (b"\xff\xd8\xff a picture", "it is no PyTorch file"),
        ({"format": "personsearch-checkpoint/1", "path": Path("a")}, "it holds pathlib.PosixPath, not only tensors"),
        ({"state_dict": {}}, "another project's"),
        ({"format": "personsearch-checkpoint/1", "config": {}, "model": {}}, "holds no weights"),
        (None, "not found"),
    ],
    ids=["empty", "truncated", "picture", "code", "foreign", "without weights", "missing"],
)
def test_unusable_checkpoints_end_with_one_line(tmp_path: Path, content: object, words: str) -> None:
    path, out = tmp_path / "x.pth", tmp_path / "b"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    assert_user_error(call("export/to_trt.py", path, "--out", out), "x.pth", words)
    assert not out.exists()
    assert not list(tmp_path.glob(".b*"))


def test_truncated_real_checkpoint_leaves_the_old_bundle(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle, cut = tmp_path / "bundle", tmp_path / "cut.pth"
    shutil.copytree(tiny_bundle, bundle)
    before = snapshot(bundle)
    cut.write_bytes(tiny_checkpoint.read_bytes()[:-2000])
    assert_user_error(call("export/to_trt.py", cut, "--out", bundle), "cut.pth")
    assert snapshot(bundle) == before


@pytest.mark.parametrize("name", ["model.onnx", "embed.onnx", "parity.json", "manifest.json"])
def test_one_flipped_byte_is_noticed(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    data = bytearray((bundle / name).read_bytes())
    place = data.index(b'"sha256": "') + 11 if name == "manifest.json" else len(data) // 2
    data[place] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError):
        read_manifest(bundle)
    assert_user_error(call("export/inspect_bundle.py", bundle), str(bundle))


def with_opset(bundle: Path, version: int) -> None:
    """Rewrite the model with another opset and put the hash right, as another exporter might."""
    model = onnx.load(str(bundle / MODEL))
    model.opset_import[0].version = version
    (bundle / MODEL).write_bytes(model.SerializeToString())
    content = json.loads((bundle / "manifest.json").read_text())
    content["files"][MODEL] = {"sha256": sha256_of(bundle / MODEL), "bytes": (bundle / MODEL).stat().st_size}
    (bundle / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino-fp32", "auto"])
def test_an_opset_that_is_too_new_is_one_clear_line(tiny_bundle: Path, tmp_path: Path, engine: str) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    with_opset(bundle, 99)
    with pytest.raises(EngineError, match="opset 99") as raised:
        BundleSearcher(bundle, engine)
    assert "\n" not in str(raised.value)


def export_into(out: Path, checkpoint: Path, limit: int = resource.RLIM_INFINITY) -> subprocess.CompletedProcess[str]:
    """Run the export; `limit` bytes is the largest file that it may write, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        return call("export/to_trt.py", checkpoint, "--out", out, "--engine", "no", "--data-frames", 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [60_000, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_write_that_fails_leaves_the_old_bundle_and_no_rest(
    tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path, limit: int
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    before = snapshot(bundle)
    assert_user_error(export_into(bundle, tiny_checkpoint, limit), "cannot be written", "nothing was changed")
    assert snapshot(bundle) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_a_full_disk_leaves_the_old_bundle(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size for path in tiny_bundle.iterdir())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(1.5 * size)}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs more rights")
    try:
        bundle = disk / "bundle"
        shutil.copytree(tiny_bundle, bundle)
        before = snapshot(bundle)
        assert_user_error(export_into(bundle, tiny_checkpoint), "No space left", "nothing was changed")
        assert snapshot(bundle) == before
        assert sorted(path.name for path in disk.iterdir()) == ["bundle"]
        BundleSearcher(bundle, "onnxruntime")
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_a_new_bundle_takes_the_old_ones_place_at_once(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle, staging = tmp_path / "bundle", tmp_path / "staging"
    shutil.copytree(tiny_bundle, bundle)
    shutil.copytree(tiny_bundle, staging)
    content = json.loads((staging / "manifest.json").read_text())
    manifest = {k: v for k, v in content.items() if k not in ("files", "schema_version")} | {"name": "newer"}
    handle = os.open(bundle, os.O_RDONLY)  # a reader that has the old folder open
    write_bundle(bundle, staging, manifest)
    try:
        assert read_manifest(bundle).name == "newer"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    finally:
        os.close(handle)


def test_bad_options_are_explained(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for options, words in (
        (("--batch", 0), "--batch: expected a whole number from 1"),
        (("--calibrate", tmp_path / "none", "--precision", "int8"), "not found"),
        (("--data", tmp_path / "none"), "not found"),
    ):
        assert_user_error(call("export/to_trt.py", tiny_checkpoint, "--out", tmp_path / "b", *options), words)
    assert not (tmp_path / "b").exists()


def test_the_same_weights_on_another_canvas(tiny_checkpoint: Path, tmp_path: Path) -> None:
    network, _ = load_network(tiny_checkpoint)
    height, width = network.canvas
    manifest = write_plain_bundle(str(tiny_checkpoint), tmp_path / "large", size=(height + 32, width + 64), proposals=5)
    assert (manifest.height, manifest.width, manifest.detections) == (height + 32, width + 64, 5)
    frame = np.full((height, width, 3), 90, np.uint8)
    assert len(BundleSearcher(tmp_path / "large", "onnxruntime").detect([frame], 0.0)[0]) <= 5
    for size, words in (("480by864", "HEIGHTxWIDTH"), ("100x100", "multiples of 32")):
        result = call("export/to_trt.py", tiny_checkpoint, "--out", tmp_path / "no", "--size", size)
        assert_user_error(result, words)
    assert not (tmp_path / "no").exists()
