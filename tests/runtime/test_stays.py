"""Stays as events: sealed, of cameras that may be kept only, and gone from the journal with the person."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from centre_parts import KEY, MODEL, looks
from conftest import REPOSITORY
from pydantic import ValidationError

from personsearch.core.errors import GalleryError, UserError
from personsearch.runtime.decisions.sighting import SeenView, Sighting, Stay
from personsearch.runtime.delivery.erasing import erase_person
from personsearch.runtime.delivery.events import encode_text, topic_of
from personsearch.runtime.delivery.journal import Journal
from personsearch.runtime.fleet.sealing import GroupKey, load_group_key
from personsearch.runtime.fleet.stays import StayTeller, opened
from personsearch.runtime.fleet_settings import FleetSettings
from personsearch.runtime.settings import JournalSettings

SCHEMA = json.loads((REPOSITORY / "runtime" / "delivery" / "stay.schema.json").read_text())
ADA = "p-00000000ada0"


def stay_of(number: str, person: str | None = None, camera: str = "door") -> tuple[Sighting, Stay]:
    now = time.time()
    views = [SeenView(looks(n), 0.5 + n / 10, np.zeros(4, np.float32)) for n in (1, 2)]
    return Sighting(number, None, None, now - 9, now, person_id=person), Stay(camera, now - 9, now, 4, views)


def teller_of(told: list[dict[str, Any]], key: GroupKey = KEY) -> StayTeller:
    teller = StayTeller("entrance", MODEL, key, lambda _: None, lambda camera: camera != "private", told.append)
    for camera in ("door", "private"):

        class Seen:  # what `look` reads of a frame
            pass

        seen = Seen()
        seen.camera = camera  # type: ignore[attr-defined]
        teller.look(seen, [], [])  # type: ignore[arg-type]
    return teller


def test_a_stay_is_told_sealed_and_its_camera_decides(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    teller = teller_of(told)
    teller.tell(*stay_of("s-0000000000000001", ADA))
    teller.tell(*stay_of("s-0000000000000002", camera="private"))
    teller.tell(*stay_of("s-0000000000000003", camera="removed"))
    (event,) = told
    journal = Journal(tmp_path / "j", JournalSettings(path=str(tmp_path / "j")))
    ((_, body),) = journal.append([event])
    journal.close()
    kept = json.loads(body)
    jsonschema.validate(kept, SCHEMA)
    assert topic_of(kept) == "stay.door"
    row = opened(kept, KEY)
    mean = looks(1) + looks(2)
    assert np.allclose(row.view, mean / np.linalg.norm(mean), atol=1e-3)
    assert not row.offset.any()
    for changed in ({"camera": "hall"}, {"sealed": kept["sealed"][:-8]}, {"sealed": "?"}, {"dimensions": 0}, {}):
        with pytest.raises(ValueError):  # noqa: PT011
            opened({**kept, **changed}, KEY if changed else GroupKey(b"x" * 32))


def test_forgetting_takes_stays_out_of_the_journal_also_those_before_the_name(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    teller = teller_of(told)
    for number, person in (("s-00000000000000a1", None), ("s-00000000000000a1", ADA), ("s-00000000000000b2", None)):
        teller.tell(*stay_of(number, person))
    told.append({"type": "sighting", "camera": "door", "sighting": "s-00000000000000a1", "person": ADA})
    path = tmp_path / "j"
    journal = Journal(path, JournalSettings(path=str(path)))
    journal.append(told)
    journal.close()
    assert erase_person(path, ["Ada"], [ADA]).deleted == 3
    left = path.read_bytes()
    assert b"s-00000000000000b2" in left
    assert b"s-00000000000000a1" not in left
    assert encode_text(ADA).encode() not in left


def test_what_leaves_the_box_needs_the_groups_key(tmp_path: Path) -> None:
    for section in ({"embeddings": True}, {"gallery": {"group": "site"}}):
        with pytest.raises(ValidationError, match="set fleet"):
            FleetSettings.model_validate({"nats": {"url": "nats://127.0.0.1"}, **section})
    with pytest.raises(ValidationError, match="NATS; set"):
        FleetSettings.model_validate({"group_key": "file:x", "gallery": {"group": "site"}})
    (tmp_path / "short").write_text("abc")
    for where, words in (
        ("", "is not named"),
        (f"file:{tmp_path}/none", "cannot be read"),
        (f"file:{tmp_path}/short", "32 bytes"),
    ):
        with pytest.raises((UserError, GalleryError), match=words):
            load_group_key(where)
    (tmp_path / "key").write_text("ab" * 32 + "\n")
    assert load_group_key(f"file:{tmp_path}/key").fingerprint == GroupKey(b"\xab" * 32).fingerprint
