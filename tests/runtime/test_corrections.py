"""Names that operators take back after a visit has ended: real events, journal, subscribers and history."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest
from conftest import REPOSITORY
from stays import MANIFEST, MODEL, ASighting, open_history, rows, visit

from personsearch.core.errors import UserError
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.sighting import Sighting, SightingChange, Stay
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.fleet.home_assistant import HomeAssistant
from personsearch.runtime.history.store import History
from personsearch.runtime.history.visit_file import VISITS, VisitFile
from personsearch.runtime.operations.corrections import Corrections
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import JournalSettings, StreamSettings, default_bundle
from personsearch.runtime.subscribe import describe

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import wait_for

LOOKS = rows(2, seed=5)
SCHEMA = jsonschema.Draft202012Validator(
    json.loads((REPOSITORY / "runtime" / "delivery" / "sighting.schema.json").read_text())
)


@dataclass
class Stream:
    """A box whose cameras see nobody: the test says which visits there are."""

    place: Path
    history: History = field(init=False)
    events: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gallery = Gallery(*MODEL)
        for name, look in zip(("Ada", "Bo"), LOOKS, strict=True):
            self.gallery.add(name, EnrolledView(look, "door"))
        self.ada, self.bo = map(self.gallery.id_of, ("Ada", "Bo"))
        settings = StreamSettings.model_validate({
            "cameras": [{"name": "door", "url": "synthetic://street"}], "publish": {"endpoint": "tcp://127.0.0.1:*"},
        })  # fmt: skip
        journal = JournalSettings(path=str(self.place / "events.db"))
        self.publisher = Publisher(settings.publish, journal, "box")
        self.pipeline = Pipeline(settings, default_bundle(), MANIFEST, self.gallery, self.publisher.publish)
        self.corrections = Corrections(self.pipeline, self.publisher.journal.path)
        self.history = open_history(self.place / "history")
        self.corrections.listeners.append(self.history.correct)
        self.client = Client(self.publisher.endpoint, since="kept")

    def tell(self, number: str, change: str, person: str | None = "Ada") -> None:
        """What the pipeline says of a visit at the door; its end leaves a record in the history as well."""
        end = time.time()
        began, stay = end - 20, Stay("door", end - 20, end, 7)
        identity = person and self.gallery.id_of(person)
        sighting = Sighting(number, person, None, began, end, [stay], person_id=identity)
        if change == "ended":
            visit(self.history, LOOKS[0], started=began, person=identity, sighting=ASighting(number))
        for listener in self.pipeline.sightings.listeners:
            listener(SightingChange(sighting, change, "left" if change == "ended" else "named", "door"))

    def next(self) -> dict:
        event = self.client.receive(10)
        assert event is not None
        SCHEMA.validate(dict(event))
        self.events.append(event)
        return event

    def kept(self, number: str) -> str:
        """Who the history says that it was."""
        for path in self.place.glob(f"history/*/*{VISITS}"):
            with VisitFile(path) as file:
                for _, block in file.blocks():
                    for record in block[block["sighting"] == number.encode()]:
                        return record["person"].decode()
        return "no such visit"


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    stream = Stream(tmp_path)
    yield stream
    stream.client.close()
    stream.history.close()
    stream.publisher.close()


NUMBER = "s-" + "a" * 16


def test_a_name_is_taken_back_after_the_visit_has_ended_and_given_back(stream: Stream) -> None:
    for change in ("started", "ended"):
        stream.tell(NUMBER, change)
        stream.next()
    assert stream.corrections.correct(NUMBER, stream.ada, None) == "told"
    event, ended = stream.next(), stream.events[-2]
    assert (event["change"], event["reason"], event["person"]) == ("corrected", "reviewed", None)
    assert (event["previous"], event["evidence"]) == (stream.ada, None)
    assert [event[key] - ended[key] for key in ("sequence", "topic_sequence")] == [1, 1]
    assert all(event[key] == ended[key] for key in ("sighting", "started", "last_seen", "duration_s", "cameras"))
    wait_for(lambda: stream.kept(NUMBER) == "", 10)
    assert stream.corrections.correct(NUMBER, stream.ada, None) == "unchanged"  # once
    assert stream.corrections.correct(NUMBER, None, stream.ada) == "told"
    assert (stream.next()["person"], stream.events[-1]["previous"]) == (stream.ada, None)
    assert "not" not in describe(stream.events[-1])
    wait_for(lambda: stream.kept(NUMBER) == stream.ada, 10)
    assert stream.corrections.correct(NUMBER, stream.ada, stream.bo) == "told"
    assert (stream.next()["person"], stream.events[-1]["previous"]) == (stream.bo, stream.ada)
    wait_for(lambda: stream.kept(NUMBER) == stream.bo, 10)


def test_a_visit_that_goes_on_is_corrected_at_its_end_unless_it_was_taken_back(stream: Stream) -> None:
    other, third = "s-" + "b" * 16, "s-" + "c" * 16
    for number in (NUMBER, other, third):
        stream.tell(number, "started")
        stream.next()
        assert stream.corrections.correct(number, stream.ada, stream.bo) == "later"
    assert stream.corrections.correct(other, stream.bo, stream.ada) == "later"  # taken back
    stream.tell(third, "updated", "Bo")  # the stream found out by itself
    stream.next()
    for number, person in ((other, "Ada"), (third, "Bo"), (NUMBER, "Ada")):
        stream.tell(number, "ended", person)
    told = [(e["sighting"], e["change"], e["person"]) for e in (stream.next() for _ in range(4))]
    assert told == [
        (other, "ended", stream.ada), (third, "ended", stream.bo), (NUMBER, "ended", stream.ada),
        (NUMBER, "corrected", stream.bo),
    ]  # fmt: skip
    wait_for(lambda: stream.kept(NUMBER) == stream.bo, 10)
    assert stream.kept(other) == stream.ada


def test_what_the_journal_does_not_know_is_said_in_a_line(stream: Stream) -> None:
    with pytest.raises(UserError, match="the journal does not keep this visit any more"):
        stream.corrections.correct(NUMBER, stream.ada, None)
    for sighting, person in ((NUMBER, "Ada"), ("'; drop", stream.ada)):
        with pytest.raises(ValueError, match="expected the ids"):
            stream.corrections.correct(sighting, person, None)
    stream.corrections.journal = stream.place / "no folder" / "events.db"
    with pytest.raises(UserError, match="the journal cannot be read"):
        stream.corrections.correct(NUMBER, stream.ada, None)


def test_nobody_who_was_forgotten_meanwhile_is_told_of(stream: Stream) -> None:
    stream.tell(NUMBER, "started")
    assert stream.corrections.correct(NUMBER, stream.ada, stream.bo) == "later"
    stream.gallery.forgotten[stream.bo] = time.time()
    stream.tell(NUMBER, "ended")
    assert [stream.next()["change"] for _ in range(2)] == ["started", "ended"]
    assert stream.corrections.correct(NUMBER, stream.ada, stream.bo) == "unchanged"
    assert stream.client.receive(0.2) is None


def test_a_client_gives_a_visit_once_more_as_it_was_corrected(stream: Stream) -> None:
    for change in ("started", "ended"):
        stream.tell(NUMBER, change)
        stream.next()
    stream.corrections.correct(NUMBER, stream.ada, stream.bo)
    stream.next()
    with Client(stream.publisher.endpoint, topics=["sighting."], since="kept") as client:
        visits = client.sightings(timeout_s=10)
        first, second = next(visits), next(visits)
    assert (first.person, first.end, first.corrected) == (stream.ada, "left", [])
    assert (second.sighting, second.person, second.end) == (NUMBER, stream.bo, "reviewed")
    assert second.corrected == [stream.ada]


def test_a_correction_is_no_news_of_where_somebody_is(stream: Stream) -> None:
    for change in ("started", "ended"):
        stream.tell(NUMBER, change)
        stream.next()
    stream.corrections.correct(NUMBER, stream.ada, stream.bo)
    sent = HomeAssistant("homeassistant", "ps/box", "box", ["door"], names=False).states(stream.next())
    assert [json.loads(message.payload)["event_type"] for message in sent] == ["sighting_corrected"]
