"""No command prints a traceback for a bad file: a line that names it, and exit status 2, whatever is wrong with it."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_files import GARBAGE, checkpoints, garbage, manifests, people, people_files, pictures
from conftest import assert_user_error, run, tiny_config
from scipy.io import savemat

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import DataError, UserError
from personsearch.export import bench, inspect_bundle, to_trt
from personsearch.export.parity import sample_frames
from personsearch.runtime import demo, enroll, keys, stream, subscribe
from personsearch.runtime.decisions import enrolment
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.delivery.journal import Journal, JournalReader
from personsearch.runtime.settings import JournalSettings
from personsearch.train import (
    adapt,
    blend,
    convert_data,
    evaluate,
    experiments,
    inspect_data,
    label,
    official,
    profile_step,
)
from personsearch.train import run as train_run

Command = Callable[..., None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Calls a command's entry point as a user would; an exception that comes out of it fails the test."""

    def call(main: Callable[[], int], *arguments: object, status: int = 2, word: str = "") -> None:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        capfd.readouterr()
        given = main()
        out, err = capfd.readouterr()
        assert given == status, f"{arguments}: {given} {out[-500:]} {err[-500:]}"
        assert "Traceback" not in err + out
        assert status != 2 or "error: " in err, (arguments, out, err)
        assert word in out + err, (arguments, out, err)

    return call


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def good_picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8))
    return path


def gallery_of(folder: Path) -> Gallery:
    manifest = read_manifest(folder, verify=False)
    gallery = Gallery(manifest.model_hash, manifest.dimensions)
    gallery.add("Ada", EnrolledView(np.eye(manifest.dimensions)[0]))
    return gallery


def test_pictures_at_enrolment(refuse: Command, tmp_path: Path) -> None:
    for kind, data in pictures().items():
        path = write(tmp_path / "ada.jpg", data)
        with pytest.raises(DataError, match=r"ada\.jpg: ") as caught:
            enrolment.from_picture(None, path, None)  # no model is needed to see it
        assert "\n" not in str(caught.value), kind
    bad = write(tmp_path / "ada.heic", pictures()["HEIC"])
    arguments = ("--gallery", tmp_path / "g", "--name", "Ada", "--image")
    refuse(enroll.main, *arguments, bad, word="HEIC is not supported; convert it to JPEG")
    refuse(enroll.main, *arguments, tmp_path, word="Is a directory")
    refuse(enroll.main, *arguments, "a\0b", word="cannot be read")
    refuse(enroll.main, *arguments, "/dev/zero", word="larger than 256 MB")
    refuse(enroll.main, *arguments, "https://u:pw1234@h/ada.jpg", word="***@h/ada.jpg: cannot be read (a picture is")


def test_pictures_of_a_data_set_are_listed_or_skipped(refuse: Command, tmp_path: Path) -> None:
    from personsearch.core.preprocess import Letterbox
    from personsearch.train.data.samples import Samples
    from personsearch.train.settings import DataSettings, SourceSettings

    bad = pictures()
    frames = [{"file": f"{i}.jpg", "split": s, "people": []} for s in ("train", "test") for i in range(len(bad) + 1)]
    write(tmp_path / "people.json", json.dumps({"images": frames}).encode())
    for number, data in enumerate(bad.values()):
        write(tmp_path / f"{number}.jpg", data)
    good_picture(tmp_path / f"{len(bad)}.jpg")
    arguments = ("--format", "json", "--root", tmp_path, "--out", tmp_path / "look")
    refuse(
        inspect_data.main, *arguments, status=1, word=f"{3 * len(bad) + 2} problems"
    )  # unread, listed twice, no query
    source = SourceSettings(format="json", root=str(tmp_path))
    samples = Samples(DataSettings(train=(source,), test=source, on_bad_image="skip"), Letterbox(96, 160))
    assert samples[(0, 0)].replaced


def test_numbers_and_text_of_people_json(refuse: Command, tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    for data in people_files().values():
        write(path, data)
        refuse(inspect_data.main, "--format", "json", "--root", tmp_path, "--out", tmp_path / "o", word=str(path))
    write(path, json.dumps(people(identity=float("nan"))).encode())
    model = ("--model", tmp_path, "--data", tmp_path, "--format", "json")
    refuse(evaluate.main, *model, word="images.0.people.0.identity")
    write(path, json.dumps(people(query={"identity": 1e20})).encode())
    config = write(tmp_path / "c.yaml", json.dumps(tiny_config(tmp_path / "r")).encode())
    data = f"data.train=[{{format: json, root: {tmp_path}}}]"
    refuse(train_run.main, "--config", config, "--dry-run", data, word="queries.0.identity")
    write(path, b"\xef\xbb\xbf" + json.dumps(people()).encode())  # a byte order mark is no fault
    good_picture(tmp_path / "a.jpg")
    refuse(inspect_data.main, "--format", "json", "--root", tmp_path, "--out", tmp_path / "o", status=1, word="7")


def test_coco_files(refuse: Command, tmp_path: Path) -> None:
    def coco(**changes: object) -> dict:
        entry = {"image_id": 1, "bbox": [1, 2, 3, 4], "identity": 3} | changes
        return {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [entry]}

    nan = float("nan")
    variants: list[object] = [coco(**{k: v}) for k in ("image_id", "bbox", "identity") for v in (nan, 1e20, True, [9])]
    variants += [coco(bbox=[1, 2, nan, 4]), coco(bbox=[1, 2, -3, 4]), coco(bbox="1234"), coco(identity=-2)]
    variants += [[], None, {}, {"images": 3, "annotations": []}, {"images": [3], "annotations": []}]
    variants += [{**coco(), "annotations": [5]}, {**coco(), "images": [{"id": 1}]}, {**coco(), "categories": [{}]}]
    variants += [{**coco(), "images": [{"id": 1, "file_name": "a", "camera": nan}]}]
    variants += [{**coco(), "images": [{"id": 1, "file_name": "a", "split": "x"}]}]
    texts = [json.dumps(v).encode() for v in variants] + list(garbage(json.dumps(coco()).encode()).values())
    for data in texts:
        path = write(tmp_path / "coco.json", data)
        refuse(convert_data.main, "--format", "coco", "--root", path, "--out", tmp_path / "out", word="coco.json: ")
        assert not (tmp_path / "out").exists()


def prw(root: Path, rows: object = ((5, 1, 2, 30, 60),), query: str = "5 1 2 30 60 c1s1_000001\n") -> None:
    root.mkdir(exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    names = np.empty((1, 1), object)
    names[0, 0] = "c1s1_000001"
    for split in ("train", "test"):
        savemat(root / f"frame_{split}.mat", {f"img_index_{split}": names})
    savemat(root / "annotations" / "c1s1_000001.jpg.mat", {"box_new": np.array(rows)})
    (root / "query_info.txt").write_text(query)
    good_picture(root / "frames" / "c1s1_000001.jpg")


def test_matlab_files_and_query_lists(refuse: Command, tmp_path: Path) -> None:
    def check(word: str) -> None:
        refuse(inspect_data.main, "--format", "prw", "--root", tmp_path, "--out", tmp_path / "o", word=word)

    for bad in (np.nan, np.inf, 1e20, 1.5):
        prw(tmp_path, [[bad, 1, 2, 30, 60]])
        check("row 1: expected a whole number")
        if bad != 1.5:
            prw(tmp_path, [[5, 1, 2, 30, 60], [5, 1, 2, bad, 60]])
            check("row 2: expected x, y, w, h")
    for rows in ([[1, 2, 3]], ["text"], [{"a": 1}]):
        prw(tmp_path, rows)
        check("c1s1_000001.jpg.mat")
    for line in ("nan 1 2 3 4 n", "inf 1 2 3 4 n", "1e20 1 2 3 4 n", "5.5 1 2 3 4 n", "5 1 nan 3 4 n", "5 1 2 n"):
        prw(tmp_path, query=f"5 1 2 30 60 c1s1_000001\n{line}\n")
        check("query_info.txt")
    prw(tmp_path)
    write(tmp_path / "query_info.txt", "5 1 2 30 60 Zoë".encode("latin-1"))
    check("not UTF-8")
    prw(tmp_path)
    good = (tmp_path / "frame_train.mat").read_bytes()
    for name in ("frame_train.mat", "annotations/c1s1_000001.jpg.mat"):
        for data in garbage(good).values():
            prw(tmp_path)
            write(tmp_path / name, data)
            check(name)
    prw(tmp_path)
    savemat(tmp_path / "frame_train.mat", {"img_index_train": np.float64(3)})
    check("frame_train.mat")
    for content in (good, *GARBAGE.values()):
        write(tmp_path / "annotation" / "pool.mat", content)
        refuse(inspect_data.main, "--format", "cuhk", "--root", tmp_path, "--out", tmp_path / "o", word="pool.mat")
    savemat(tmp_path / "annotation" / "pool.mat", {"pool": np.zeros((1, 1))})
    savemat(tmp_path / "annotation" / "Images.mat", {"Img": np.zeros((1, 1))})
    refuse(inspect_data.main, "--format", "cuhk", "--root", tmp_path, "--out", tmp_path / "o", word="annotation")


def test_videos(refuse: Command, shipped_bundle: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "good.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(4):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    detector = shipped_bundle / "model.onnx"
    for kind, data in (*GARBAGE.items(), ("only a header", (tmp_path / "good.avi").read_bytes()[:220])):
        video = write(tmp_path / "bad.avi", data)
        out = ("--out", tmp_path / kind)
        refuse(label.main, "--video", video, "--detector", detector, *out, word="bad.avi")
        refuse(adapt.main, "--video", video, *out, word="bad.avi")
        assert not (tmp_path / kind / "people.json").exists()
        with pytest.raises(DataError, match=r"bad\.avi"):
            sample_frames(str(video))
    refuse(label.main, "--video", tmp_path / "good.avi", "--detector", detector, "--out", tmp_path / "x", word="YOLOX")


def test_networks_of_others(refuse: Command, shipped_bundle: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "c.yaml", json.dumps(tiny_config(tmp_path / "r")).encode())
    omniscale = ["model.roi={head: omniscale, height: 16, width: 16, widths: [16, 32]}"]
    files = garbage((shipped_bundle / "embed.onnx").read_bytes(), 1)
    for kind, data in {**files, "another network": (shipped_bundle / "embed.onnx").read_bytes()}.items():
        path = write(tmp_path / "net.onnx", data)
        for setting in (f"init={path}", f"teacher.embedding={path}"):
            refuse(train_run.main, "--config", config, "--dry-run", setting, word="net.onnx")
        if kind != "another network":
            refuse(label.main, "--video", "x", "--detector", path, "--out", tmp_path / "x", word="net.onnx")
        net = write(tmp_path / "net.xml", data)
        refuse(train_run.main, "--config", config, "--dry-run", f"init_reid={net}", *omniscale, word="net.xml")


def test_checkpoints(refuse: Command, tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "c.yaml", json.dumps(tiny_config(tmp_path / "r")).encode())
    data = tmp_path / "data"
    write(data / "people.json", json.dumps(people()).encode())
    good_picture(data / "a.jpg")
    small = (f"data.test={{format: json, root: {data}}}", f"data.train=[{{format: json, root: {data}}}]")
    for kind, path in checkpoints(tiny_checkpoint, tmp_path).items():
        refuse(to_trt.main, path, "--out", tmp_path / "b", word=path.name if kind != "a folder" else "")
        if kind != "a folder":
            refuse(evaluate.main, "--model", path, "--data", data, "--format", "json", word=path.name)
        refuse(official.main, path, "--out", tmp_path / "o.pth", word=path.name)
        if not kind.startswith("a size"):  # the weights alone are good
            refuse(train_run.main, "--config", config, "--dry-run", f"init={path}", *small, word=path.name)
        if kind not in ("a weight that is no number",) and not kind.startswith("a size"):
            refuse(blend.main, path, tiny_checkpoint, "--out", tmp_path / "o.pth", "--statistics", 0, word=path.name)
    assert not (tmp_path / "o.pth").exists()
    resnet = ("model.backbone=resnet50", "model.rpn.kind=anchors", "model.height=64", "model.width=64")
    for data in GARBAGE.values():
        path = write(tmp_path / "resnet.pth", data)
        refuse(train_run.main, "--config", config, "--dry-run", f"init_resnet={path}", *resnet, word="resnet.pth")


def test_configurations(refuse: Command, tmp_path: Path) -> None:
    texts = [b"data: {a: 1, a: 2}", b"data: [", b"seed: !!int ''", b"seed: 2020-99-99", b"- 1", b"seed: \x07", b"\xff"]
    texts += [b"seed: .nan", b"out: &a [*a]", b"[" * 3000]
    for data in texts:
        path = write(tmp_path / "c.yaml", data)
        for main in (train_run.main, profile_step.main):
            refuse(main, "--config", path, word="c.yaml")
        refuse(experiments.main, "ablation", "--config", path, "--out", tmp_path / "e", word="c.yaml")
        refuse(bench.main, path, word="c.yaml")
        refuse(stream.main, "--cams", path, word="c.yaml")


def test_bundles(refuse: Command, shipped_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in shipped_bundle.iterdir():
        (bundle / file.name).symlink_to(file)
    good = json.loads((shipped_bundle / "manifest.json").read_text())
    (bundle / "manifest.json").unlink()
    cams = write(tmp_path / "cams.yaml", b"cameras: [{name: a, url: '0'}]\ngallery: g\n")
    for data in manifests(good).values():
        write(bundle / "manifest.json", data)
        refuse(inspect_bundle.main, bundle, word="bundle")
    for main, *arguments in (
        (to_trt.main, bundle), (bench.main, bundle), (inspect_bundle.main, bundle, "--json"),
        (stream.main, "--cams", cams, "--bundle", bundle), (demo.main, "--bundle", bundle),
        (enroll.main, "--gallery", tmp_path / "g", "--list", "--bundle", bundle),
    ):  # fmt: skip
        refuse(main, *arguments, word="bundle")
    for data in GARBAGE.values():
        path = write(tmp_path / "rows.json", data)
        refuse(bench.main, path, word="rows.json")
    for name in ("model.onnx", "parity.json"):  # a bundle that is whole, but holds rubbish
        entry = {"sha256": sha256(b"[3]").hexdigest(), "bytes": 3}
        write(bundle / "manifest.json", json.dumps({**good, "files": {**good["files"], name: entry}}).encode())
        (bundle / name).unlink()
        write(bundle / name, b"[3]")
        refuse(inspect_bundle.main, bundle, word=name)
        if name == "model.onnx":
            data = tmp_path / "data"
            write(data / "people.json", json.dumps(people()).encode())
            refuse(evaluate.main, "--model", bundle, "--data", data, "--format", "json")
        (bundle / name).unlink()
        (bundle / name).symlink_to(shipped_bundle / name)


def test_galleries(refuse: Command, shipped_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "people.gallery"
    save_gallery(gallery_of(shipped_bundle), path)
    good = path.read_bytes()
    with np.load(path) as content:
        arrays = dict(content)
    row = np.eye(int(arrays["dimensions"]), dtype=np.float32)[:1]
    first = {"model_hash": arrays["model_hash"], "names": np.array(["Ada"]), "embeddings": row}
    first["format"] = np.array("personsearch-gallery/1")  # is read as well
    cams = write(tmp_path / "cams.yaml", f"cameras: [{{name: a, url: '0'}}]\ngallery: {path}\n".encode())
    changes: list[dict[str, np.ndarray]] = [
        {"embeddings": row * value} for value in (np.nan, np.float32(1e20), np.float32(0))
    ]
    changes += [{"names": np.array([name])} for name in ("", "a\nb", "a\x1b[2Jb", "a\u202eb", "\ud800", "x" * 300)]
    changes += [{"names": np.array([["Ada", "Bo"]])}, {"names": np.array(3.0)}, {"format": np.array("x\n" * 99)}]
    changes += [{"embeddings": np.zeros((1, 3), np.float32)}, {"model_hash": np.array("other")}]
    made = [{**first, **change} for change in changes]
    records, ends = arrays["records"], arrays["ends"]
    changes = [
        {"records": records[:-9]},
        {"records": records * np.nan},
        {"records": np.roll(records, 1)},
        {"ends": -ends},
    ]
    changes += [{"ids": np.array(["p-other"])}, {"dimensions": np.array(3)}, {"model_hash": np.array("other")}]
    made += [{**arrays, **change} for change in changes]
    files = list(garbage(good).values())
    for content in made:
        np.savez(tmp_path / "made.npz", **content)
        files.append((tmp_path / "made.npz").read_bytes())
    for data in files:
        write(path, data)
        refuse(enroll.main, "--gallery", path, "--list", word="people.gallery: ")
        refuse(enroll.main, "--gallery", path, "--remove", "Ada", word="people.gallery: ")
    refuse(stream.main, "--cams", cams, "--validate", word="people.gallery: ")
    refuse(enroll.main, "--gallery", tmp_path, "--list", word="is a folder")
    refuse(enroll.main, "--gallery", "/dev/zero", "--list", word="is a device or pipe")


def test_keys(refuse: Command, tmp_path: Path) -> None:
    for text in (*GARBAGE.values(), b"curve\n", b'public-key = "short"\n', b'public-key = "' + b"~" * 40 + b'"\n'):
        key = write(tmp_path / "server.key", text)
        write(tmp_path / "clients" / "x.key", text)
        refuse(keys.main, "list", "--keys", tmp_path, word="server.key")
        refuse(keys.main, "client", "ada", "--keys", tmp_path, word="server.key")
        refuse(subscribe.main, "--key", key, "--server-key", key, word="server.key")


def test_a_damaged_journal_is_put_aside_and_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for number, data in enumerate(d for d in GARBAGE.values() if d):
        write(path, data + bytes(200))
        Journal(path, JournalSettings()).close()
        assert len(list(tmp_path.glob("*.damaged-*"))) >= min(1, number)
        path.unlink()
    database = sqlite3.connect(path)
    database.execute("create table events(name text)")
    database.commit()
    database.close()
    with pytest.raises(UserError, match="a database, but no journal"):
        Journal(path, JournalSettings())
    path.unlink()
    journal = Journal(path, JournalSettings())
    journal.append([{"type": "engine", "state": "ready"}])
    journal.close()
    database = sqlite3.connect(path)
    database.execute("insert into events values (2, 'engine', 2, 0, null)")
    database.execute("insert into events values (3, x'00ff', 'x', 'y', 'text')")
    database.commit()
    reader = JournalReader(path)
    bodies, going_on = reader.read(1, 9, [""], 10, 1000, 10)
    reader.close()
    assert (len(bodies), going_on) == (1, 10)
    database.execute("update numbers set value = 'many'")
    database.commit()
    database.close()
    Journal(path, JournalSettings()).close()
    assert list(tmp_path.glob("journal.db.damaged-*"))


def test_earlier_results_that_are_damaged(refuse: Command, tmp_path: Path) -> None:
    from personsearch.train.paper.ablation import ROWS

    for data in (*GARBAGE.values(), b"[]"):
        path = write(tmp_path / "runs" / f"{ROWS[0].key}-0.json", data)
        root = tmp_path / "street"
        write(root / "people.json", json.dumps(people()).encode())
        refuse(experiments.main, "ablation", "--out", tmp_path, word=path.name)


def test_as_real_processes(shipped_bundle: Path, tmp_path: Path) -> None:
    picture = write(tmp_path / "ada.jpg", pictures()["JPEG with flipped size bits"])
    enrolled = run("runtime/enroll.py", "--gallery", tmp_path / "g", "--name", "Ada", "--image", picture)
    assert_user_error(enrolled, "ada.jpg", "pixels, more than")
    assert not (tmp_path / "g").exists()
    write(tmp_path / "people.json", json.dumps(people(identity=float("nan"))).encode())
    inspected = run("train/inspect_data.py", "--format", "json", "--root", tmp_path)
    assert_user_error(inspected, "images.0.people.0.identity", "nan")
    cams = write(tmp_path / "cams.yaml", b"cameras: [{name: a, url: '0'}]\ncameras: [{name: b, url: '1'}]\n")
    assert_user_error(run("runtime/stream.py", "--cams", cams, "--validate"), "'cameras' stands twice", "1 and 2")
