"""The doctor, and the words for too much to do."""

import json
import socket
import stat
import sys
from pathlib import Path

import pytest
import yaml
from conftest import assert_user_error, call, run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import free_port, some_gallery, street_video

from personsearch.core import redaction
from personsearch.core.redaction import remember
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.operations import examination, trials
from personsearch.runtime.operations.capacity import Demand, capacity
from personsearch.runtime.operations.house import look_at_files, look_at_ports
from personsearch.runtime.operations.overload import Overload
from personsearch.runtime.operations.trials import CameraTrial, EngineTrial, try_engine
from personsearch.runtime.settings import StreamSettings

SECRET = "Sesame-4711"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", ())


def write_cams(place: Path, **changes: object) -> Path:
    content = {
        "box": "test", "gallery": str(place / "people.gallery"),
        "cameras": [
            {"name": "file", "url": str(place / "street.avi")},
            {
                "name": "gate", "url": f"rtsp://admin:{SECRET}@127.0.0.1:9/stream?token={SECRET}x",
                "detail_url": f"rtsp://admin:{SECRET}@127.0.0.1:9/main?token={SECRET}x", "open_timeout_s": 1,
            },
        ],
        "publish": {"endpoint": f"tcp://127.0.0.1:{free_port(2)}"}, **changes,
    }  # fmt: skip
    path = place / "cams.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_box_is_measured_and_reported_without_secrets(tiny_bundle: Path, tmp_path: Path) -> None:
    save_gallery(some_gallery(), tmp_path / "people.gallery")
    street_video(tmp_path / "street.avi", frames=20, fps=10)
    cams, report = write_cams(tmp_path, bundle=str(tiny_bundle)), tmp_path / "report.json"
    result = run("runtime/doctor.py", "--cams", cams, "--seconds", 0.2, "--json", "--report", report)
    assert result.returncode == 3, result.stderr
    assert SECRET not in result.stdout + result.stderr + report.read_text()
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    found = json.loads(report.read_text())
    assert found == json.loads(result.stdout)
    engines = {engine["choice"]: engine for engine in found["engines"]}
    assert engines["onnxruntime"]["find_s"] > 0
    assert not engines["onnxruntime"]["problem"]
    assert found["chosen"] in engines
    assert len(engines["tensorrt"]["problem"]) > 10
    file, gate = found["cameras"]
    assert file["frames"] > 5
    assert file["fps"] == 10
    assert file["cpu_s"] > 0
    assert file["decoder"]
    assert set(found["machine"]["decoders"]) == {"cuda", "vaapi", "v4l2"}
    assert "refused" in gate["problem"]
    assert found["capacity"]["wanted"] == 10
    assert found["capacity"]["cameras_at"]["5"] >= found["capacity"]["cameras_at"]["10"]
    assert found["machine"]["cores"] >= 1
    assert found["settings"]["cameras"][1]["url"] == "rtsp://127.0.0.1:9/stream"
    assert found["settings"]["cameras"][1]["detail_url"] == "rtsp://127.0.0.1:9/main"
    assert not found["unknown"]
    texts = [finding["text"] for finding in found["findings"]]
    assert any("gate: detail_url: rtsp://127.0.0.1:9/main" in text for text in texts)
    assert any("publish.endpoint" in text and "is free" in text for text in texts)
    problems = {finding["part"] for finding in found["findings"] if finding["state"] == "problem"}
    assert {"cameras", "files"} <= problems  # the gate is offline, and the gallery is another model's


@pytest.mark.parametrize(
    ("main", "state", "words"),
    [
        (CameraTrial("gate", picture=(1920, 1080)), "ok", "gate: detail_url gives 1920x1080"),
        (CameraTrial("gate", picture=(704, 576)), "problem", "detail_url gives 704x576 and url 640x360"),
        (CameraTrial("gate", problem="gone"), "problem", "gate: detail_url: gone"),
        (None, "problem", "a FIFO cannot be a detail_url"),
    ],
)
def test_a_main_stream_has_to_show_the_same_view(main: CameraTrial | None, state: str, words: str) -> None:
    found = examination.Examination()
    examination._main_stream(found, "gate", CameraTrial("gate", picture=(640, 360)), main, "")
    assert found.findings[0].state == state
    assert words in found.findings[0].text


def test_wrong_files_are_findings_beside_the_others(tmp_path: Path) -> None:
    assert_user_error(call("runtime/doctor.py", "--cams", tmp_path / "none.yaml"), "none.yaml: no such file")
    assert_user_error(call("runtime/doctor.py", "--seconds", 0), "--seconds 0: expected more than 0")
    (tmp_path / "cams.yaml").write_text("camera: []\n")
    result = call("runtime/doctor.py", "--cams", tmp_path / "cams.yaml", "--bundle", tmp_path / "nowhere")
    assert result.returncode == 3
    assert "PROBLEM" in result.stdout
    assert "cams.yaml:1" in result.stdout
    assert "nowhere" in result.stdout
    assert result.stdout.startswith("machine ")
    assert "Traceback" not in result.stdout + result.stderr


def test_what_the_doctor_does_not_know_ends_in_a_file_to_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd() -> None:
        raise RuntimeError(f"odd: {SECRET}")

    remember(SECRET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(examination, "look_at_machine", odd)
    result = call("runtime/doctor.py", "--bundle", tmp_path / "nowhere")
    assert result.returncode == 3
    assert "wrote personsearch-doctor.json" in result.stderr
    text = Path("personsearch-doctor.json").read_text()
    assert "RuntimeError: odd: ***" in text
    assert "in odd" in text  # the traceback
    assert SECRET not in text + result.stdout + result.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL: built for another processor"),
        ("raise SystemExit('no room')", "ended with 1: no room"),
        ("import time; time.sleep(600)", "no answer within 1 s"),
        ("print('hello')", "without a word"),
    ],
)
def test_an_engine_that_takes_its_process_with_it_is_a_result(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_trial.py").write_text(code)
    monkeypatch.setattr(trials, "MODULE", "dying_trial")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    timeout = 0.8 if "sleep" in code else 60
    assert words in try_engine(tmp_path, "openvino", 0, 0.2, timeout).problem


def settings_of(tmp_path: Path, **changes: object) -> StreamSettings:
    return StreamSettings.model_validate(yaml.safe_load(write_cams(tmp_path, **changes).read_text()))


def test_files_and_permissions(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "server.key_secret").write_text("x")
    (keys / "server.key_secret").chmod(0o644)
    journal = {"path": str(tmp_path / "missing" / "events.journal")}
    settings = settings_of(tmp_path, gallery="", journal=journal, publish={"keys": str(keys)})
    text = "\n".join(f"{state} {text}" for _, state, text in look_at_files(settings, tmp_path))
    assert "note no gallery is named" in text
    assert "is no folder; make it" in text
    assert "others may read" in text
    (tmp_path / "missing").mkdir()
    (keys / "server.key_secret").chmod(0o600)
    found = list(look_at_files(settings, tmp_path))
    assert not [text for _, state, text in found if state == "problem"]
    assert [text for part, state, text in found if part == "disk" and state == "ok" and "GB are free" in text]
    assert not list((tmp_path / "missing").iterdir())


def test_ports_in_use_are_named_and_free_ones_stay_free(tmp_path: Path) -> None:
    port = free_port(3)
    settings = settings_of(tmp_path, publish={"endpoint": f"tcp://127.0.0.1:{port}"}, operations={"port": port + 2})
    assert [state for _, state, _ in look_at_ports(settings)] == ["ok"] * 3
    with socket.create_server(("127.0.0.1", port + 1)):
        found = list(look_at_ports(settings))
    assert [state for _, state, _ in found] == ["ok", "problem", "ok"]
    assert f"{port + 1}" in found[1][2]
    ipc = settings_of(tmp_path, publish={"endpoint": f"ipc://{tmp_path}/events"})
    assert [state for _, state, _ in look_at_ports(ipc)] == ["ok"] * 2
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(f"{tmp_path}/events")
        stream.listen()
        assert [state for _, state, _ in look_at_ports(ipc)] == ["problem", "ok"]
    assert not list(tmp_path.glob("*.lock"))


ENGINE = EngineTrial("openvino", "openvino", find_s=0.02, find_cpu_s=0.04, describe_s=0.01, describe_cpu_s=0.02)


def test_capacity_is_what_the_engine_and_the_processor_both_allow() -> None:
    engine_alone = capacity(ENGINE, described=10, cores=64, cameras=[])
    assert engine_alone.sustained == pytest.approx((0.7 - 10 * 0.01) / 0.02)
    assert engine_alone.cameras_at == {"5": 6, "10": 3, "25": 1}
    camera = Demand(decoded=25, analysed=10, decode_s=0.004)
    both = capacity(ENGINE, described=10, cores=2, cameras=[camera] * 3)
    assert both.decoding == pytest.approx(0.3)
    assert both.sustained == pytest.approx((1.4 - 0.3 - 0.2) / 0.042)
    assert both.overload == pytest.approx(30 / both.sustained)
    for drowned in (
        capacity(ENGINE, described=10, cores=1, cameras=[camera] * 9),
        capacity(ENGINE, described=80, cores=64, cameras=[camera]),
    ):
        assert drowned.sustained == 0
        assert drowned.overload == float("inf")


def test_overload_is_told_with_its_factor_and_what_to_do() -> None:
    cameras = [Camera(CameraSettings(name=name, url="0"), lambda *_: None) for name in ("a", "b")]
    overload = Overload()

    def second(number: int, lost: int, busy: float, still: int = 0) -> None:
        for camera in cameras:
            camera.counters.analysed += 10
            camera.counters.dropped["newer"] += lost
            camera.counters.dropped["still"] += still
        overload.note(cameras, busy, float(number))

    for number in range(12):
        second(number, lost=0, busy=0.99 * number, still=50)
    assert overload.words() == ""  # busy, but all are analysed
    for number in range(12, 24):
        second(number, lost=9, busy=0.99 * number)
    assert overload.factor == pytest.approx(1.9)
    assert overload.words().startswith("overloaded by 1.9x: each busy camera gets 10.0 frames/s; set max_fps: 10.0")
    for number in range(24, 36):
        second(number, lost=9, busy=0.99 * 24)
    assert overload.factor == 1  # frames are lost for other reasons: the engine has time
    overload.note([], 30.0, 40.0)
    assert overload.words() == ""
