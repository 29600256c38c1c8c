"""Calls: live pictures, and events as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json
from personsearch.core.redaction import redact
from personsearch.core.text import whole_number
from personsearch.runtime.page.access import Session
from personsearch.runtime.page.calls import Call, encoded, problem, session_of
from personsearch.runtime.page.feeds import Viewer
from personsearch.runtime.page.link import Event
from personsearch.runtime.page.parts import Parts

MOST_CAMERAS = 64  # for one viewer
LOOK_S = 10.0  # how often a long connection asks whether its session still holds
LOGGED_OUT = 4401  # closes the WebSocket of somebody without a session
COMMENT_S = 10.0  # between signs of life of the stream of events


def calls(parts: Parts) -> list[Call]:
    async def still(request: Request, _: Any) -> Response:
        """For settings: the whole picture, with nothing drawn on it."""
        await parts.seen.note(request.state.session, "still", camera=request.path_params["camera"])
        found = await parts.control.picture(request.path_params["camera"], width=1280, quality=85, wait_s=10.0)
        if found is None:
            return problem(503, "the camera gives no pictures at the moment")
        head, picture = found
        shows = ",".join(map(str, head["shows"]))
        return Response(picture, media_type="image/jpeg", headers={"x-shows": shows})

    async def events(request: Request, _: Any) -> Response:
        await parts.seen.note(request.state.session, "events")
        last = request.headers.get("last-event-id") or request.query_params.get("after", "")
        after = whole_number(last, 1 << 53)
        return StreamingResponse(
            _stream(parts, request, after), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def live_picture(_: Request, __: Any) -> Response:
        return problem(426, "this is a WebSocket")

    return [
        Call("GET", "/api/live", "viewer", "A WebSocket: say {\"cameras\": [...], \"width\": 400}, get binary messages "
             "(`<I` length, JSON head, JPEG), answer each with `ok`; four unanswered ones are the limit. `width`: "
             "pixels of a camera on your screen; without it as many as `page.picture_width` allows.", live_picture,
             gives="image/jpeg"),
        Call("GET", "/api/cameras/{camera}/still.jpg", "viewer",
             "A picture of a camera; the header X-Shows says which part of the upright picture it shows.", still,
             gives="image/jpeg"),
        Call("GET", "/api/events", "viewer", "Server-sent events: each event as `box`, its number as id; "
             "Last-Event-ID goes on from there. What belongs to a row of sightings comes with the row.", events,
             query=("after",), gives="text/event-stream"),
    ]  # fmt: skip


async def _stream(parts: Parts, request: Request, after: int | None) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    looked = time.monotonic()
    async for batch in parts.events.after(after, COMMENT_S):
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            if session_of(request, parts.sessions) is None:
                return
        if not batch:
            yield ": still there\n\n"
        for event in batch:
            yield f"id: {event['sequence']}\nevent: box\ndata: {encoded(_told(parts, event))}\n\n"


def _told(parts: Parts, event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {"event": event}
    for row in reversed(parts.sightings.rows.values()):  # the one that changed last comes last
        if row.sequence == event["sequence"]:
            told["row"] = parts.shown(row)
        if row.sequence <= event["sequence"]:
            break
    return told


def live(parts: Parts) -> Callable[[WebSocket], Awaitable[None]]:
    """WebSocket `/api/live`: the browser says {"cameras": [...], "width": 400}, and "ok" after each picture
    (`feeds.py`)."""

    async def endpoint(socket: WebSocket) -> None:
        session = session_of(socket, parts.sessions)
        if session is None:
            await socket.close(LOGGED_OUT)
            return
        await socket.accept()
        viewer = Viewer()
        sender = asyncio.create_task(_send(parts, socket, viewer))
        try:
            while True:
                text = await socket.receive_text()
                if text == "ok":
                    viewer.answered()
                    continue
                cameras, width = _wish(text)
                await _note(parts, session, cameras)
                parts.feeds.watch(viewer, cameras, width)
        except UserError as error:  # the audit log cannot be written
            await socket.close(1011, redact(str(error))[:100])
        except (WebSocketDisconnect, ValueError, RuntimeError, KeyError):  # KeyError: bytes instead of text
            pass
        finally:
            parts.feeds.watch(viewer, set())
            sender.cancel()

    return endpoint


async def _note(parts: Parts, session: Session, cameras: set[str]) -> None:
    for camera in sorted(cameras):
        await parts.seen.note(session, "live", camera=camera)


async def _send(parts: Parts, socket: WebSocket, viewer: Viewer) -> None:
    looked = time.monotonic()
    while True:
        message = await viewer.next()
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            session = session_of(socket, parts.sessions)
            if session is None:
                await socket.close(LOGGED_OUT)
                return
            try:
                await _note(parts, session, viewer.cameras)  # who looks for long is on record each hour
            except UserError as error:
                await socket.close(1011, redact(str(error))[:100])
                return
        try:
            await socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError):
            return


def _wish(text: str) -> tuple[set[str], int]:
    """Cameras, and how wide they are shown (0: not said). Raises ValueError for what is no list of names."""
    content = parse_json(text)
    names, width = (content.get("cameras"), content.get("width", 0)) if isinstance(content, dict) else (None, 0)
    if not isinstance(names, list) or len(names) > MOST_CAMERAS or not all(isinstance(n, str) for n in names):
        raise ValueError
    if type(width) is not int or width < 0:
        raise ValueError
    return set(names), width
