"""The page as one ASGI application: its parts, its calls, and the files that the browser loads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import UserError
from personsearch.runtime.page import (
    enrol_calls,
    health_calls,
    live_calls,
    login_calls,
    people_calls,
    review_calls,
    search_calls,
    settings_calls,
    sighting_calls,
)
from personsearch.runtime.page.access import Attempts, Sessions, Users
from personsearch.runtime.page.calls import Call, answer, on_http_error, openapi, routes
from personsearch.runtime.page.cams import Cams
from personsearch.runtime.page.describing import Describing
from personsearch.runtime.page.guard import Guard
from personsearch.runtime.page.parts import Options, Parts, audit_by
from personsearch.runtime.page.people import People
from personsearch.runtime.page.reviewing import Reviewing
from personsearch.runtime.page.seen import Seen

log = logging.getLogger("personsearch.page")
STATIC = Path(__file__).parent / "static"
CHORES_S = 5.0


def application(options: Options, parts: Parts | None = None) -> Guard:
    """Everything that is served. `parts` is filled once the event loop runs (Starlette's lifespan)."""
    parts = parts or prepare(options)
    calls = [
        *login_calls.calls(parts), *live_calls.calls(parts), *sighting_calls.calls(parts), *review_calls.calls(parts),
        *search_calls.calls(parts), *enrol_calls.calls(parts), *people_calls.calls(parts),
        *settings_calls.calls(parts), *health_calls.calls(parts),
    ]  # fmt: skip

    async def description(_request: Request, _body: Any) -> Response:
        return answer(openapi(calls))

    calls.append(Call("GET", "/api/openapi.json", "anybody", "This description.", description))
    table: list[BaseRoute] = [
        *routes(calls, parts.sessions, parts.audit.check),
        WebSocketRoute("/api/live", live_calls.live(parts)),
        Route("/", _index),
        Mount("/", StaticFiles(directory=STATIC)),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await parts.start()
        chores = asyncio.create_task(_chores(parts))
        try:
            yield
        finally:
            chores.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await chores
            await parts.close()

    app = Starlette(routes=table, lifespan=lifespan, exception_handlers={HTTPException: on_http_error})
    return Guard(app, options.hosts, options.settings.encrypted)


def prepare(options: Options) -> Parts:
    """The parts that need no event loop. Raises UserError for files that cannot be used."""
    manifest = read_manifest(options.bundle)
    users = Users(options.settings.users)
    users.all()  # a damaged file is said at the start
    audit = audit_by(options.audit)
    return Parts(
        options=options, manifest=manifest, users=users,
        sessions=Sessions(users, options.secret, options.console_key, set(options.revoked)), attempts=Attempts(),
        people=People(options.gallery, manifest, options.gallery_key, options.journal, options.audit), audit=audit,
        seen=Seen(audit), reviewing=Reviewing(options.gallery),
        cams=Cams(options.cams, options.gallery, manifest),
        describing=Describing(options.bundle, options.engine, manifest.dimensions),
    )  # fmt: skip


async def _chores(parts: Parts) -> None:
    """Every few seconds: a sample for the plots of health, and what else is due."""
    while True:
        try:
            parts.sample(await parts.control_state())
        except UserError:
            pass  # the stream is busy or ending; the plots get a gap
        except Exception:
            log.exception("a sample of the stream's state could not be taken")
        try:
            await parts.chores()
        except Exception:
            log.exception("what is old could not be forgotten")
        await asyncio.sleep(CHORES_S)


async def _index(_: Request) -> Response:
    return FileResponse(STATIC / "index.html")
