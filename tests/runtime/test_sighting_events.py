"""Sightings over real sockets: whole visits, late names, ids instead of names, and the sockets' description."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
import zmq
from conftest import REPOSITORY
from referencing import Registry, Resource
from test_sightings import PICTURE, WALL, Box, gallery_of, settings_of

from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError
from personsearch.core.street.street import parse_street_url, street_of
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.evidence import Decision
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.delivery.events import EventFactory, read_event
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import JournalSettings, PublishSettings, StreamSettings
from personsearch.runtime.subscribe import describe

LOCAL = PublishSettings(endpoint="tcp://127.0.0.1:*")
GALLERY = gallery_of(0, 1, 2)
NAMES = GALLERY.names_by_id()
DOCUMENT = REPOSITORY / "docs" / "asyncapi.yaml"


@pytest.fixture(scope="module")
def events() -> list[dict]:
    """Ada comes, goes on in the yard and leaves; Bo is still there when the program ends without a word."""
    box = Box()
    box.watch("door", 0, 3, {0: 100, 1: 400})
    for at in np.arange(3, 16, 0.2):
        box.see("door", float(at), {1: 400})
        box.see("yard", float(at), {0: 100} if at < 5 else {})
    assert [e["change"] for e in box.events] == ["started", "started", "updated", "ended"]
    return box.events


def match_event(factory: EventFactory) -> dict:
    frame = Frame("door", PICTURE, 3, WALL, 1.0, picture_size=(640, 200))
    track = Track(1, np.array([1, 2, 5, 8.0]), 0.9, 1.0, 1.0, 0, np.zeros((5, 4)))
    return factory.match(Match(track, "Ada", Decision("recognised", "Ada", 0.8, 12.5, "Bo", 0.4, 5, 0.7)), frame, WALL)


def test_a_client_gives_whole_visits_and_their_names_late(events: list[dict], tmp_path: Path) -> None:
    journal = JournalSettings(path=str(tmp_path / "j"))
    publisher = Publisher(LOCAL, journal, "box")
    publisher.serve_names(lambda: NAMES)
    endpoint, replay = publisher.endpoint, publisher.replay_endpoint
    for event in [*events, match_event(EventFactory("box"))]:
        publisher.publish(event)
    with Client(endpoint, since="kept") as client:
        received = [client.receive(5) for _ in range(5)]
        assert all(event is not None for event in received)
        assert [event["name"] for event in received if event] == ["Ada", "Bo", "Ada", "Ada", "Ada"]
        assert '"name"' not in json.dumps(received)
        with pytest.raises(KeyError):
            _ = received[0]["colour"]  # type: ignore[index]
        line = describe(received[0])  # type: ignore[arg-type]
        assert "Ada started (named)" in line
        assert describe(dict(received[0])).count(GALLERY.id_of("Ada")) == 1  # type: ignore[arg-type]
        NAMES[GALLERY.id_of("Ada")] = "Ada L."
        client.names._asked = -1e9  # a minute later
        assert received[0]["name"] == "Ada L."  # type: ignore[index]
        NAMES[GALLERY.id_of("Ada")] = "Ada"
    publisher.close()
    # The box was killed while Bo was there; it comes back with its journal.
    again = Publisher(PublishSettings(endpoint=endpoint, replay=replay), journal, "box")
    again.serve_names(lambda: NAMES)
    fresh = {**events[0], "sighting": "s-" + "f" * 16}
    for event in (fresh, {**fresh, "change": "ended", "reason": "left"}):
        again.publish(event)
    with Client(endpoint, topics=["sighting."], since="kept") as client:
        found = []
        for visit in client.sightings(timeout_s=5):
            found.append(visit)
            if len(found) == 3:
                break
    again.close()
    assert [(visit.name, visit.end) for visit in found] == [("Ada", "left"), ("Bo", "restart"), ("Ada", "left")]
    assert [stay["camera"] for stay in found[0].cameras] == ["door", "yard"]
    assert found[0].duration_s == events[-1]["duration_s"]
    assert [event["change"] for event in found[0].events] == ["started", "updated", "ended"]


def test_a_real_stream_says_who_comes_once_and_ends_it_with_the_file(
    shipped_bundle: Path, searcher: BundleSearcher
) -> None:
    url = "synthetic://street?seed=7&cameras=2&people=3&identities=6&camera=1&frames=60"
    street = street_of(parse_street_url(url))
    gallery = Gallery(searcher.manifest.model_hash, searcher.dimensions)
    shown = street.frame(1, 30)
    best = int(np.argmax(shown.visible * (shown.boxes[:, 3] - shown.boxes[:, 1])))
    embedding = searcher.embed(shown.image, shown.boxes[best][None])[0]
    gallery.add("Ada", EnrolledView(embedding))
    said: list[dict] = []
    camera = {"name": "file", "url": url, "pace": "fast", "open_timeout_s": 60, "read_timeout_s": 60}
    settings = StreamSettings.model_validate({
        "cameras": [camera], "match": {"threshold": 0.6, "repeat_s": 0},
        "inference": {"timeout_s": 60, "load_timeout_s": 600},
    })  # fmt: skip
    pipeline = Pipeline(settings, shipped_bundle, searcher.manifest, gallery, said.append, keep_trying=True)
    pipeline.run()
    matches = [event for event in said if event["type"] == "match"]
    visits = [event for event in said if event["type"] == "sighting"]
    assert len(matches) > 5
    assert [(visits[0]["change"], visits[-1]["change"], visits[-1]["reason"])] == [("started", "ended", "end")]
    assert [event["change"] for event in visits].count("started") == 1
    assert {event["person"] for event in visits} == {gallery.id_of("Ada")}
    assert matches[0]["frame"]["index"] == visits[0]["frame"]["index"]
    assert 1 < visits[-1]["duration_s"] <= 6
    assert pipeline.people.names() == {gallery.id_of("Ada"): "Ada"}


def test_sightings_need_their_topic() -> None:
    with Client("tcp://127.0.0.1:9", topics=["match."]) as client, pytest.raises(UserError, match=r"sighting\."):
        next(client.sightings(0.1))


def test_ids_stand_in_matches_too_where_names_are_hidden() -> None:
    event = match_event(EventFactory("box", "0" * 16, GALLERY.id_of))
    assert (event["person"], event["runner_up"]) == (GALLERY.id_of("Ada"), GALLERY.id_of("Bo"))
    assert "Ada" not in json.dumps(event)


@pytest.mark.parametrize(
    "change",
    [{"duration_s": float("nan")}, {"person": 7}, {"cameras": "door"}, {"started": None}, {"camera": 1}],
)
def test_what_is_no_sighting_is_refused(events: list[dict], change: dict) -> None:
    stamp = {"id": "x", "boot": "0" * 32, "sequence": 1, "topic_sequence": 1}
    assert read_event(json.dumps({**stamp, **events[0]}))
    with pytest.raises(ValueError, match="not an event"):
        read_event(json.dumps({**stamp, **events[0], **change}))


def test_a_name_that_was_said_is_not_in_the_journal_of_sightings(tmp_path: Path) -> None:
    box = Box(settings_of())
    box.watch("door", 0, 3, {0: 100, 1: 400})
    publisher = Publisher(LOCAL, JournalSettings(path=str(tmp_path / "j")), "box")
    for event in box.events:
        publisher.publish(event)
    publisher.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert GALLERY.id_of("Ada").encode() in content
    assert b"Ada" not in content


def blocks(text: str) -> Iterator[dict]:
    decoder = json.JSONDecoder()
    while text := text.strip():
        content, end = decoder.raw_decode(text)
        yield content
        text = text[end:]


def test_the_examples_in_the_documents_follow_the_schema() -> None:
    schema = json.loads((REPOSITORY / "runtime" / "delivery" / "sighting.schema.json").read_text())
    text = (REPOSITORY / "docs" / "sightings.md").read_text()
    found = re.search(r"<!-- examples -->\n```json\n(.*?)```", text, re.S)
    assert found
    examples = list(blocks(found[1]))
    assert [example["change"] for example in examples] == ["started", "updated", "corrected", "ended"]
    for example in examples:
        jsonschema.validate(example, schema)
        read_event(json.dumps(example))
    for wrong in ({"previous": None}, {"name": "Ada"}, {"person": "Ada"}, {"change": "moved"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**examples[0], **wrong}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({key: v for key, v in examples[2].items() if key != "previous"}, schema)
    reasons = set(schema["properties"]["reason"]["enum"])
    told = set(re.findall(r"`(\w+)`", text[text.index("| `started`") : text.index("Every `started`")]))
    assert reasons - told <= {"offline"}


# --- the sockets' description -------------------------------------------------------------------------------------


def references(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(content, list):
        for value in content:
            yield from references(value)


def resolve(document: dict, reference: str) -> Any:
    file, _, pointer = reference.partition("#")
    content = json.loads((DOCUMENT.parent / file).read_text()) if file else document
    for part in pointer.strip("/").split("/") if pointer.strip("/") else ():
        content = content[part]
    return content


def validator(document: dict, message: str) -> jsonschema.Draft202012Validator:
    payload = resolve(document, document["components"]["messages"][message]["payload"]["$ref"])
    # References within the document are looked up in it.
    root = {**payload, "components": document["components"]}
    registry = Registry().with_resource("", Resource.opaque(root))
    return jsonschema.Draft202012Validator(root, registry=registry)


def test_the_description_of_the_sockets_is_whole() -> None:
    document = yaml.safe_load(DOCUMENT.read_text())
    assert document["asyncapi"] == "3.0.0"
    assert {"info", "servers", "channels", "operations", "components"} <= set(document)
    assert document["info"]["title"]
    assert document["info"]["version"]
    for reference in references(document):
        assert isinstance(resolve(document, reference), dict), reference
    for name, channel in document["channels"].items():
        wanted = set(re.findall(r"{(\w+)}", channel["address"] or ""))
        assert wanted == set(channel.get("parameters", {})), name
        assert channel["messages"]
        assert all(reference["$ref"].startswith("#/servers/") for reference in channel["servers"])
    for name, operation in document["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        assert operation["channel"]["$ref"].startswith("#/channels/")
    kinds = {"match", "candidate", "sighting", "stay", "camera", "engine"}
    kinds |= {"settings", "storage", "gallery", "heartbeat"}
    assert {name for name in document["channels"] if name != "questions"} == kinds
    for message in document["components"]["messages"]:
        validator(document, message).check_schema(validator(document, message).schema)


def test_running_sockets_say_what_their_description_says(events: list[dict]) -> None:
    document = yaml.safe_load(DOCUMENT.read_text())
    publisher = Publisher(LOCAL, JournalSettings(), "box")
    publisher.serve_names(lambda: NAMES)
    publisher.serve_views(lambda camera, track: [(np.ones(4, np.float32), 0.5, "0" * 16)])
    factory = EventFactory("box", "0" * 16)
    now = time.time()
    sent = [
        *events, match_event(factory), factory.camera_state("door", "offline", "timeout", "", now),
        factory.engine_state("ready", "", 0, now), factory.settings_state("applied", "", now),
        factory.storage_state("ok", "", now), factory.gallery_state("failed", "", "", "full", now),
    ]  # fmt: skip
    context = zmq.Context()
    live = context.socket(zmq.SUB)
    live.setsockopt(zmq.SUBSCRIBE, b"")
    live.connect(publisher.endpoint)
    try:
        assert live.poll(10_000)  # a heartbeat: from now on everything comes
        messages = [live.recv_multipart()]
        for event in sent:
            publisher.publish(event)
        while len(messages) < len(sent) + 1 and live.poll(10_000):
            messages.append(live.recv_multipart())
        kinds = set()
        for topic, body in messages:
            kind = topic.decode().partition(".")[0]
            address = document["channels"][kind]["address"].replace("{camera}", r"[A-Za-z0-9_-]+")
            assert re.fullmatch(address, topic.decode())
            validator(document, kind).validate(json.loads(body))
            kinds.add(kind)
        assert kinds == {"heartbeat", "sighting", "match", "camera", "engine", "settings", "storage", "gallery"}

        replay = context.socket(zmq.REQ)
        replay.connect(publisher.replay_endpoint)
        questions: list[dict] = [
            {"request": "snapshot"}, {"request": "range", "first": 1, "last": 100, "topics": ["sighting."]},
            {"request": "names"}, {"request": "views", "camera": "door", "track": 1}, *[{"request": "names"}] * 80,
        ]  # fmt: skip
        heard: dict[str, int] = {}
        for question in questions:
            validator(document, "question").validate(question)
            replay.send(json.dumps(question).encode())
            assert replay.poll(10_000)
            head, *more = replay.recv_multipart()
            answer = json.loads(head)
            validator(document, "answer").validate(answer)
            heard[answer["reply"]] = len(more)
        assert heard["range"] == len(events)
        replay.send(b"nonsense")
        assert replay.poll(10_000)
        validator(document, "answer").validate(json.loads(replay.recv()))
        assert {"snapshot", "range", "names", "views"} <= set(heard)
        with pytest.raises(jsonschema.ValidationError):
            validator(document, "question").validate({"request": "everything"})
    finally:
        context.destroy(linger=0)
        publisher.close()


def test_names_are_told_on_this_machine_or_to_those_with_a_key_only() -> None:
    publisher = Publisher(LOCAL, JournalSettings(), "box")
    publisher.settings = PublishSettings(endpoint="tcp://0.0.0.0:9", insecure=True)  # as if others could reach it
    publisher.serve_names(lambda: NAMES)
    with Client(publisher.endpoint) as client:
        assert client.receive(2.5) is None
        assert client.names.of(GALLERY.id_of("Ada")) is None
    publisher.close()
