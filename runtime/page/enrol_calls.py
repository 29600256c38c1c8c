"""Calls: enrolling from pictures, live frames, tracks and sightings."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.config import Settings
from personsearch.core.errors import UserError
from personsearch.core.pictures import decode_picture, is_grey
from personsearch.core.quality import quality_of
from personsearch.runtime.decisions.gallery import PICTURE, EnrolledView
from personsearch.runtime.decisions.names import MAX_NAME
from personsearch.runtime.page.calls import Call, answer, problem
from personsearch.runtime.page.describing import Person, Picture, corners, new_number
from personsearch.runtime.page.parts import Parts
from personsearch.runtime.page.people import GREY


class Still(Settings):
    camera: str = Field(max_length=64)


class ChosenView(Settings):
    """A person of a picture (`picture` and `person`), a track of a running camera, a sighting (`row`), or what was
    suggested of one of these; `only` chooses among those views, from 0."""

    picture: str = Field("", max_length=64)
    person: int = Field(0, ge=0)
    camera: str = Field("", max_length=64)
    track: int | None = None
    row: str = Field("", max_length=64)
    suggestion: str = Field("", max_length=64)
    only: list[int] | None = Field(None, max_length=100)


class Enrolment(Settings):
    """confirm  enrol in spite of the warnings that the first answer gave"""

    name: str = Field(max_length=MAX_NAME * 2)
    views: list[ChosenView] = Field(min_length=1, max_length=20)
    confirm: bool = False


def calls(parts: Parts) -> list[Call]:
    async def picture(request: Request, body: bytes) -> Response:
        if not body:
            raise UserError("expected the bytes of a picture")
        return answer((await parts.describing.describe(body, "the picture")).shown())

    async def still(_: Request, body: Still) -> Response:
        found = await parts.control.picture(body.camera, width=0, quality=95, wait_s=10.0)
        if found is None:
            return problem(503, "the camera gives no pictures at the moment")
        head, jpeg = found
        people = [(p["track"], p["score"], _within(p["box"], head["shows"])) for p in head["people"]]
        return answer(parts.describing.keep(await asyncio.to_thread(_live, jpeg, body.camera, people)).shown())

    async def jpeg(request: Request, _: Any) -> Response:
        made = parts.describing.pictures.get(request.path_params["picture"])
        return Response(made.jpeg, media_type="image/jpeg") if made else problem(404, "not kept any more")

    async def suggest(_: Request, body: ChosenView) -> Response:
        views, complaints = await _views(parts, [body])
        shown = [{"source": v.source, "quality": round(float(v.quality), 4)} for v in views]
        return answer({"suggestion": parts.suggested.keep(views), "views": shown, "warnings": complaints})

    async def enrol(request: Request, body: Enrolment) -> Response:
        views, complaints = await _views(parts, body.views)
        doubts = await asyncio.to_thread(parts.people.doubts, body.name, views, complaints)
        if doubts and not body.confirm:
            return problem(409, "look at this first", warnings=doubts)
        added = await asyncio.to_thread(parts.people.add, body.name, views)
        parts.audit("page.enrolled", user=request.state.session.name, person=added.id, views=len(views))
        await parts.reload()
        return answer({"name": added.name, "views": len(views), "warnings": doubts})

    return [
        Call("POST", "/api/pictures", "operator", "Find and describe the people in a picture.", picture, bytes),
        Call("POST", "/api/stills", "operator", "What a camera sees now, with its people.", still, Still),
        Call("GET", "/api/pictures/{picture}", "operator", "Such a picture, turned upright.", jpeg, gives="image/jpeg"),
        Call("POST", "/api/views", "operator", "The views that such a choice would enrol, for choosing among them: of "
             "somebody in a live picture the best of the track.", suggest, ChosenView),
        Call("POST", "/api/people", "operator", "Enrol; 409 with `warnings` asks for `confirm`.", enrol, Enrolment),
    ]  # fmt: skip


async def _views(parts: Parts, chosen: list[ChosenView]) -> tuple[list[EnrolledView], list[str]]:
    """The views, and what is wrong with them in words. Raises UserError for those that are gone."""
    views: list[EnrolledView] = []
    complaints: list[str] = []
    for choice in chosen:
        found, wrong = await _of_choice(parts, choice)
        if choice.only is not None:
            if any(not 0 <= i < len(found) for i in choice.only):
                raise UserError(f"only: there are {len(found)} views, numbered from 0")
            found = [found[i] for i in choice.only]
        views += found
        complaints += wrong
    return views, complaints


async def _of_choice(parts: Parts, choice: ChosenView) -> tuple[list[EnrolledView], list[str]]:
    if choice.suggestion:
        return parts.suggested.get(choice.suggestion), []
    if choice.picture:
        picture, person = parts.describing.get(choice.picture, choice.person)
        if found := await _of_track(parts, picture, person):
            return found, []
        embedding = await parts.describing.embedding(picture, person)
        wrong = [f"{', '.join(person.complaints)} (quality {person.quality:.2f})"] if person.complaints else []
        view = EnrolledView(embedding, picture.camera or PICTURE, person.quality)
        return [view], wrong + [GREY] * picture.grey
    if choice.track is not None:
        found = await parts.views.of(choice.camera, choice.track)
        if not found:
            raise UserError("the stream keeps no views of this person any more; take another picture")
        return found, []
    if choice.row:
        return await parts.views_of_row(choice.row), []
    raise UserError("a view is a picture with a person in it, a camera with a track, a sighting, or a suggestion")


def _within(box: list[float], shows: list[float]) -> list[float]:
    """[x, y, w, h] as shares of the upright picture -> as shares of the part of it that is shown."""
    x, y, w, h = shows
    return [(box[0] - x) / w, (box[1] - y) / h, box[2] / w, box[3] / h]


async def _of_track(parts: Parts, picture: Picture, person: Person) -> list[EnrolledView]:
    """The best views that the stream itself has of somebody in a live picture; empty if it keeps none (any more)."""
    track = picture.tracks[picture.people.index(person)] if picture.tracks else None
    if track is None:
        return []
    try:
        return await parts.views.of(picture.camera, track)
    except UserError:  # off loopback the stream gives no views
        return []


def _live(jpeg: bytes, camera: str, people: list[tuple[int, float, list[float]]]) -> Picture:
    """A frame of our own stream with the people that it follows (track, score, box as shares of the frame), the
    clearest first. They are described when one of them is enrolled, mostly by the stream's own views."""
    image = decode_picture(jpeg, "the live picture")
    height, width = image.shape[:2]
    found = []
    for track, score, box in people:
        quality = quality_of(image, corners(box) * np.array([width, height] * 2, np.float32), score)
        found.append((track, Person(box, None, round(min(1.0, quality.value), 4), quality.complaints())))
    found.sort(key=lambda item: -item[1].quality)
    picture = Picture(new_number(), jpeg, width, height, is_grey(image), camera, [person for _, person in found])
    picture.tracks = [track for track, _ in found]
    return picture
