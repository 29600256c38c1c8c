"""Calls: searching back, with a picture, a sighting or somebody who is enrolled."""

from __future__ import annotations

import asyncio
from typing import Any

import cv2
import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.config import Settings
from personsearch.core.errors import UserError
from personsearch.core.text import whole_number
from personsearch.runtime.decisions.gallery import PICTURE, EnrolledView
from personsearch.runtime.decisions.names import MAX_NAME, person_name
from personsearch.runtime.delivery.events import from_iso
from personsearch.runtime.history.report import as_json, one_in, sheet
from personsearch.runtime.history.searching import Found, Range
from personsearch.runtime.page.calls import Call, answer, problem
from personsearch.runtime.page.describing import Person, Picture, corners
from personsearch.runtime.page.parts import Parts
from personsearch.runtime.page.remembered import Searched

MOST = 200


class Query(Settings):
    """Whom to search for: a person of a picture (`picture` and `person`), a sighting (`row`), or somebody enrolled
    (`name`); and where and when: times as events have them, empty for any."""

    picture: str = Field("", max_length=64)
    person: int = Field(0, ge=0)
    row: str = Field("", max_length=64)
    name: str = Field("", max_length=MAX_NAME * 2)
    cameras: list[str] = Field(default_factory=list, max_length=256)
    since: str = Field("", max_length=40)
    until: str = Field("", max_length=40)
    limit: int = Field(60, ge=1, le=MOST)
    least: float = Field(-1.0, ge=-1, le=1)


def calls(parts: Parts) -> list[Call]:
    one_at_a_time = asyncio.Lock()

    async def search(request: Request, body: Query) -> Response:
        if not parts.options.history:
            raise UserError("no visits are kept on this box: set history.path in cams.yaml, and restart the stream")
        wanted = Range(_moment(body.since, -np.inf), _moment(body.until, np.inf), frozenset(body.cameras))
        if wanted.since > wanted.until:
            raise UserError("since is later than until")
        views, picture, by = await _query(parts, body)
        parts.audit("searched", user=request.state.session.name, cameras=sorted(wanted.cameras), since=body.since,
                    until=body.until, **by)  # fmt: skip
        async with one_at_a_time:
            found, left_out, least = await asyncio.to_thread(_found, parts, views, wanted, body)
        told = as_json(found, {hit.person: parts.people.name_of(hit.person) for hit in found.hits if hit.person})
        for hit, given in zip(found.hits, told["hits"], strict=True):
            beyond = hit.false_match_rate < least[hit.camera]  # of what the calibration can say
            given |= {
                "picture": bool(hit.crop),
                "somebody_else": "over " * beyond + one_in(max(hit.false_match_rate, least[hit.camera])),
                "known": hit.sighting in parts.sightings.rows,
            }  # fmt: skip
        number = parts.searches.keep(Searched(found, picture))
        return answer({"search": number, "left_out": left_out, "query": picture is not None, **told})

    async def crop(request: Request, _: Any) -> Response:
        hits = parts.searches.get(request.path_params["search"]).found.hits
        number = whole_number(request.path_params["hit"], len(hits) - 1)
        if number is None or not hits[number].crop:
            return problem(404, "no picture is kept of this visit")
        return Response(hits[number].crop, media_type="image/jpeg")

    async def query_picture(request: Request, _: Any) -> Response:
        picture = parts.searches.get(request.path_params["search"]).picture
        if picture is None:
            return problem(404, "this search began with no picture")
        return Response(cv2.imencode(".jpg", picture)[1].tobytes(), media_type="image/jpeg")

    async def contact_sheet(request: Request, _: Any) -> Response:
        searched = parts.searches.get(request.path_params["search"])
        drawn = await asyncio.to_thread(lambda: cv2.imencode(".png", sheet(searched.found, searched.picture))[1])
        parts.audit("page.export", user=request.state.session.name, form="sheet", visits=len(searched.found.hits))
        headers = {"content-disposition": 'attachment; filename="visits.png"'}
        return Response(drawn.tobytes(), media_type="image/png", headers=headers)

    return [
        Call("POST", "/api/search", "operator", "Visits of the history that look like somebody, the most alike first.",
             search, Query),
        Call("GET", "/api/searches/{search}/query.jpg", "operator", "The picture that was searched with.",
             query_picture, gives="image/jpeg"),
        Call("GET", "/api/searches/{search}/sheet.png", "operator", "What was found as a contact sheet.", contact_sheet,
             gives="image/png"),
        Call("GET", "/api/searches/{search}/{hit}.jpg", "operator", "The picture of a visit that was found, from 0.",
             crop, gives="image/jpeg"),
    ]  # fmt: skip


def _found(parts: Parts, views: list[EnrolledView], wanted: Range, body: Query) -> tuple[Found, str, dict[str, float]]:
    """What was found, what was left out in words, and the smallest false match rate that each camera's calibration
    supports. On one thread: the cameras come first."""
    lookback = parts.lookback()
    found = lookback.find(parts.options.history, views, wanted, body.limit, body.least, threads=1)
    least = {camera: lookback.odds(camera).least_rate for camera in found.searched}
    return found, lookback.left_out(parts.options.history, found), least


async def _query(parts: Parts, body: Query) -> tuple[list[EnrolledView], np.ndarray | None, dict[str, Any]]:
    """Views of whom is searched for, a picture, and how that was said, for the audit log. Raises UserError."""
    if sum(map(bool, (body.picture, body.row, body.name))) != 1:
        raise UserError("expected one of picture, row and name: whom to search for")
    if body.name:
        name = person_name(body.name)
        views = (await asyncio.to_thread(parts.people.gallery)).views_of(name)
        if not views:
            raise UserError(f"'{name}' is not enrolled")
        return views, None, {"by": "person", "person": parts.people.id_of(name)}
    if body.row:
        views, kept = await parts.views_of_row(body.row), parts.keeper.get(body.row)
        return views, _decoded(kept.jpeg) if kept and kept.jpeg else None, {"by": "sighting", "row": body.row}
    picture, person = parts.describing.get(body.picture, body.person)
    embedding = await parts.describing.embedding(picture, person)
    view = EnrolledView(embedding, picture.camera or PICTURE, person.quality)
    return [view], _cut(picture, person), {"by": "picture"}


def _decoded(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None  # our own JPEG
    return image


def _cut(picture: Picture, person: Person) -> np.ndarray:
    image = _decoded(picture.jpeg)
    height, width = image.shape[:2]
    size = np.array([width, height] * 2)
    x1, y1, x2, y2 = np.clip(corners(person.box) * size, 0, size).astype(int)
    part: np.ndarray = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    return part


def _moment(text: str, otherwise: float) -> float:
    try:
        return from_iso(text) if text else otherwise
    except ValueError:
        raise UserError(f"'{text}': expected a time such as 2026-11-25T14:00:00Z") from None
