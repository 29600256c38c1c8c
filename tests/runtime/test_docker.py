"""Images, compose files and unit: what can be checked without an engine for containers, and their commands for real."""

import configparser
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, run

from personsearch.core.config import load_settings
from personsearch.runtime.decisions.gallery_file import load_gallery
from personsearch.runtime.settings import StreamSettings

DOCKER = REPOSITORY / "docker"


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(
        r"\\\n\s*", " ", "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    )
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def build_arguments(steps: list[tuple[str, str]]) -> dict[str, str]:
    return dict(value.split("=", 1) for kind, value in steps if kind == "ARG")


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda", "Dockerfile.centre"])
def test_images_are_small_non_root_and_health_checked(name: str) -> None:
    steps = instructions(DOCKER / name)
    kinds = [kind for kind, _ in steps]
    assert set(kinds) <= {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "HEALTHCHECK", "CMD"}
    base = next(value for kind, value in steps if kind == "FROM")
    assert re.search(r":\d", build_arguments(steps)[base.strip("${}")]), "the base image needs a version"
    assert [value for kind, value in steps if kind == "USER"][-1] not in ("root", "0")
    assert kinds.index("USER") < kinds.index("CMD")
    assert "HEALTHCHECK" in kinds
    for kind, value in steps:
        if kind == "COPY":
            for source in value.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
        if kind == "RUN" and "apt-get install" in value:
            assert "--no-install-recommends" in value
            assert "rm -rf /var/lib/apt/lists" in value
        if kind == "RUN" and "pip install" in value:
            assert "--no-cache-dir" in value
    command = json.loads(next(value for kind, value in steps if kind == "CMD"))
    assert command[0] in {
        line.split()[0] for line in setup()["options.entry_points"]["console_scripts"].splitlines() if line
    }


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda", "Dockerfile.centre"])
def test_images_hold_every_package_and_what_it_requires(name: str) -> None:
    """pip refuses to install where a folder of setup.cfg is missing."""
    steps = instructions(DOCKER / name)
    copied = {source for kind, value in steps if kind == "COPY" for source in value.split()[:-1]}
    assert set(re.findall(r"= (\w+)", setup()["options"]["package_dir"])) <= copied
    extras = next(
        re.findall(r"requirements\.py ([\w ]+) >", value)[0]
        for kind, value in steps
        if "requirements" in value and kind == "RUN"
    )
    wanted = run("docker/requirements.py", *extras.split())
    assert wanted.returncode == 0, wanted.stderr
    assert {"numpy>=1.26", "nats-py[nkeys]>=2.16"} <= set(wanted.stdout.splitlines())


@pytest.mark.parametrize("name", ["compose.yaml", "compose-fleet.yaml"])
def test_compose_files_name_what_there_is(name: str) -> None:
    """Commands, files, volumes, ports, settings, services; containers have few rights and end when they are told to."""
    compose = yaml.safe_load((DOCKER / name).read_text())
    services = compose["services"]
    programs = setup()["options.entry_points"]["console_scripts"]
    used = set()
    for service, content in services.items():
        for other in content.get("depends_on", {}):
            assert other in services, service
        for volume in content.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), volume
            used.add(source)
        for port in content.get("ports", []):
            assert port.startswith("127.0.0.1:")
        if "build" not in content:
            assert re.search(r":\D?\d", content["image"]), "an image of others needs a version"
            continue
        assert (DOCKER / content["build"]["context"] / content["build"]["dockerfile"]).resolve().exists()
        assert content["cap_drop"] == ["ALL"]
        assert content["security_opt"] == ["no-new-privileges:true"]
        assert (content["read_only"], content["tmpfs"], content["init"]) == (True, ["/tmp"], True)
        assert content["working_dir"] == "/app"
        words = " ".join(content["command"])
        for file in re.findall(r"(?<!/)\b(?:docker|runtime)/[\w-]+\.(?:yaml|py)", words):
            assert (REPOSITORY / file).exists(), file
        for program in re.findall(r"personsearch-\w+", words):
            assert f"\n{program} =" in programs, program
    assert set(compose["volumes"]) <= used
    for file in set(re.findall(r"docker/[\w-]+\.yaml", json.dumps(services))) - {"docker/centre.yaml"}:
        settings = load_settings(REPOSITORY / file, StreamSettings)
        hosts = {camera.url.split("/")[2].split(":")[0] for camera in settings.cameras}
        assert hosts <= set(services)
        assert settings.operations.port == 9464  # where the image's health check asks
        assert settings.publish.keys or settings.publish.endpoint.startswith("tcp://127.0.0.1:")
        assert not settings.publish.insecure


def test_the_commands_of_the_compose_file_work_together_outside_of_containers(tmp_path: Path) -> None:
    """Fake cameras, keys, enrolment, stream, health check and monitor, with paths and hosts moved to this machine."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "faults"))
    from harness import free_port

    port = free_port(3)
    processes: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        return process

    try:
        cameras = [begin("docker/fake_camera.py", "serve", "--port", "0", "--camera", str(n)) for n in (1, 2)]
        urls = [camera.stdout.readline().strip() for camera in cameras]  # type: ignore[union-attr]
        keys, gallery = tmp_path / "keys", tmp_path / "people.gallery"
        assert run("runtime/keys.py", "server", "--keys", keys).returncode == 0
        assert run("runtime/keys.py", "client", "monitor", "--keys", keys).returncode == 0
        assert run("docker/fake_camera.py", "enrol", gallery).returncode == 0
        text = (
            (DOCKER / "cams.yaml")
            .read_text()
            .replace("/data", str(tmp_path))
            .replace("0.0.0.0:5556", f"127.0.0.1:{port}")
        )
        text = text.replace("port: 9464", f"port: {port + 2}")
        for name, url in zip(("front", "back"), urls, strict=True):
            text = text.replace(f"http://camera-{name}:8080/stream.mjpg", url)
        (tmp_path / "cams.yaml").write_text(text)
        settings = load_settings(tmp_path / "cams.yaml", StreamSettings)
        assert len(load_gallery(gallery, _model(), 256).people) == 3
        begin("runtime/stream.py", "--cams", str(tmp_path / "cams.yaml"), "--keep-trying")
        health = ["docker/healthcheck.py", str(settings.operations.port)]
        assert run("docker/healthcheck.py", "1").returncode == 1
        end = time.monotonic() + 60
        while run(*health).returncode:
            assert time.monotonic() < end
            time.sleep(0.5)
        monitor = run(
            "runtime/subscribe.py", "--connect", settings.publish.endpoint, "--since", "kept", "--count", "2",
            "--key", keys / "monitor.key_secret", "--server-key", keys / "server.key", "--timeout", "20",
        )  # fmt: skip
        assert "online" in monitor.stdout, monitor.stderr
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port + 2}/metrics", timeout=5).read().decode()
        assert 'personsearch_camera_online{camera="back"} 1.0' in metrics
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def _model() -> str:
    from personsearch.core.bundle import read_manifest

    return read_manifest(REPOSITORY / "models" / "edge").model_hash


def test_the_systemd_unit_is_well_formed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    text = (DOCKER / "personsearch.service").read_text()
    program = tmp_path / "personsearch-stream"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "personsearch.service").write_text(
        text.replace("/opt/personsearch/.venv/bin/personsearch-stream", str(program))
    )
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "personsearch.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "personsearch.service" not in result.stderr, result.stderr
    assert "WatchdogSec" in text
