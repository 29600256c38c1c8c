"""The centre over HTTP: a bearer key for everything but /healthz, OpenAPI at /openapi.json, searches on record."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from psycopg_pool import PoolTimeout

from personsearch.centre.api.guard import caller, needs
from personsearch.centre.api.health_calls import health
from personsearch.centre.api.people_calls import people
from personsearch.centre.api.search_calls import searching
from personsearch.centre.house import House
from personsearch.core import __version__
from personsearch.core.errors import UserError
from personsearch.core.redaction import redact


def make_app(house: House) -> FastAPI:
    """The application; the house begins and ends with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with house.running():
            yield

    app = FastAPI(
        title="personsearch centre", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url=None,
        description="What the boxes of a fleet saw. Every call but /healthz needs `Authorization: Bearer KEY`.",
    )  # fmt: skip
    app.state.house = house
    app.include_router(_plain())
    app.include_router(searching, prefix="/v1", dependencies=[Depends(needs("search"))])
    app.include_router(people, prefix="/v1", dependencies=[Depends(needs("people"))])
    app.include_router(health, dependencies=[Depends(needs("health"))])

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(caller)])
    def description() -> dict[str, Any]:
        return app.openapi()

    @app.exception_handler(psycopg.Error)
    @app.exception_handler(PoolTimeout)
    async def no_database(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the database does not answer; try again later"}, 503, {"Retry-After": "5"})

    @app.exception_handler(UserError)
    async def refused(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": redact(str(error))}, 409)

    @app.middleware("http")
    async def nothing_is_kept(request: Request, answer: Any) -> Any:
        response = await answer(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return app


def _plain() -> APIRouter:
    router = APIRouter()

    @router.get("/healthz", response_class=PlainTextResponse, summary="Is the database there, and the hub?")
    async def healthz(request: Request) -> PlainTextResponse:
        house: House = request.app.state.house
        trouble = house.intake.trouble or await house.database_trouble()
        if trouble:
            raise HTTPException(503, "not ready: /v1/boxes and the log say why")
        return PlainTextResponse("ok\n")

    return router
