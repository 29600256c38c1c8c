"""Home Assistant's MQTT discovery: a device per camera (connection, an event entity for who is seen), a device for
the box, with a sensor per person that says in which camera they were seen last."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from personsearch.core import __version__
from personsearch.runtime.delivery.events import REVIEWED

PERSON = re.compile(r"p-[0-9a-f]{12}")
SEEN = ("match", "candidate", "sighting")  # types of events that the event entity may say
CHANGES = ("started", "updated", "ended", "corrected")  # of sightings


@dataclass(frozen=True)
class Message:
    topic: str
    payload: str
    retain: bool = True


class HomeAssistant:
    """Makes the messages; knows which sensors were announced. Retained ones hold ids of people instead of names, unless
    `names` is set."""

    def __init__(self, discovery: str, root: str, box: str, cameras: Iterable[str], names: bool) -> None:
        """discovery  Home Assistant's prefix; root: PREFIX/BOX, where our messages go"""
        self._prefix, self._root, self._box, self._show_names = discovery, root, box, names
        self._cameras = dict.fromkeys(cameras)  # in order
        self._node = f"ps_{_slug(box)}"
        self._names: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._people: set[str] = set()

    def learn(self, names: dict[str, str]) -> None:
        """names  id -> name of the enrolled"""
        self._names |= names
        self._ids |= {name: person for person, name in names.items()}

    def unknown(self, event: dict[str, Any]) -> bool:
        """Whether the event is the first that tells of somebody: then it pays to ask for the names."""
        person = event.get("person")
        return bool(person) and event["type"] != "candidate" and self._id_of(str(person)) not in self._people

    def discovery(self) -> list[Message]:
        """For every start: what Home Assistant has already is replaced by the same."""
        return [self._device(camera) for camera in self._cameras] + [self._sensor(p) for p in sorted(self._people)]

    def states(self, event: dict[str, Any]) -> list[Message]:
        """What an event changes, and what has to be announced before."""
        camera, kind = event.get("camera"), event["type"]
        if not camera:
            return []
        messages = []
        if camera not in self._cameras:
            self._cameras[camera] = None
            messages.append(self._device(camera))
        if kind == "camera":
            messages.append(Message(self._topic(camera, "online"), "ON" if event["state"] == "online" else "OFF"))
        if kind not in SEEN:
            return messages
        change = event.get("change")
        person = self._id_of(str(event["person"])) if event.get("person") else None
        said = {
            "event_type": f"sighting_{change}" if kind == "sighting" else kind, "time": event["time"],
            "id": event.get("id"), "person": person or event.get("stranger"), "similarity": event.get("similarity"),
        }  # fmt: skip
        if self._show_names and person:
            said["name"] = self._name_of(person)
        messages.append(Message(self._topic(camera, "seen"), json.dumps(said), retain=False))
        if person and kind != "candidate" and event.get("reason") != REVIEWED:  # that is no news of where they are
            if person not in self._people:
                self._people.add(person)
                messages.append(self._sensor(person))
            state = {"camera": camera, "time": event["time"], "here": change != "ended"}
            messages.append(Message(f"{self._root}/person/{person}", json.dumps(state)))
        return messages

    def _id_of(self, person: str) -> str:
        """Matches may name people, sightings tell their ids."""
        if PERSON.fullmatch(person):
            return person
        if person not in self._ids:
            digest = hashlib.sha256(unicodedata.normalize("NFC", person).encode()).hexdigest()
            self.learn({f"p-{digest[:12]}": person})
        return self._ids[person]

    def _name_of(self, person: str) -> str:
        return self._names.get(person, person)

    def _topic(self, camera: str, what: str) -> str:
        return f"{self._root}/home/{camera}/{what}"

    def _common(self) -> dict[str, Any]:
        return {
            "o": {"name": "personsearch", "sw": __version__},
            "availability": [{"topic": f"{self._root}/status"}],
            "qos": 1,
        }

    def _device(self, camera: str) -> Message:
        node = f"{self._node}_{_slug(camera)}"
        content = {
            **self._common(),
            "dev": {"ids": [node], "name": f"{self._box} {camera}", "mf": "personsearch", "via_device": self._node},
            "cmps": {
                "online": {
                    "p": "binary_sensor", "unique_id": f"{node}_online", "name": "Connection",
                    "device_class": "connectivity", "state_topic": self._topic(camera, "online"),
                },
                "seen": {
                    "p": "event", "unique_id": f"{node}_seen", "name": "Seen", "icon": "mdi:account-search",
                    "state_topic": self._topic(camera, "seen"),
                    "event_types": ["match", "candidate", *(f"sighting_{change}" for change in CHANGES)],
                },
            },
        }  # fmt: skip
        return Message(f"{self._prefix}/device/{node}/config", json.dumps(content))

    def _sensor(self, person: str) -> Message:
        """A discovery message of its own, so that people of earlier runs stay."""
        unique = f"{self._node}_{_slug(person)}"
        name = self._name_of(person) if self._show_names else person
        topic = f"{self._root}/person/{person}"
        content = {
            **self._common(),
            "dev": {"ids": [self._node], "name": f"personsearch {self._box}", "mf": "personsearch"},
            "unique_id": unique, "name": name, "icon": "mdi:account", "state_topic": topic,
            "value_template": "{{ value_json.camera }}", "json_attributes_topic": topic,
        }  # fmt: skip
        return Message(f"{self._prefix}/sensor/{unique}/config", json.dumps(content))


def _slug(name: str) -> str:
    """Letters, digits, - and _; a name that had others gets a hash, so that two names stay two."""
    slug = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return slug if slug == name else f"{slug}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
