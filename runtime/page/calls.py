"""The page's calls as one table: each has a path, who may make it, what it takes, and a sentence. Routes and the
OpenAPI description come from the same table, and the page itself uses nothing else."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from personsearch.core import __version__
from personsearch.core.errors import UserError
from personsearch.core.redaction import redact
from personsearch.runtime.page.access import Session, Sessions
from personsearch.runtime.page.guard import TooLong

log = logging.getLogger("personsearch.page")
COOKIE, SAFE_COOKIE = "personsearch", "__Host-personsearch"  # the second over TLS
MOST_JSON = 256 << 10
Who = Literal["anybody", "viewer", "operator"]
Work = Callable[[Request, Any], Awaitable[Response]]


@dataclass(frozen=True)
class Call:
    """takes  a pydantic model of the JSON body, `bytes` for a picture, or None
    query  names of the query's parameters, for the description"""

    method: str
    path: str
    who: Who
    says: str
    work: Work
    takes: type[BaseModel] | type[bytes] | None = None
    query: tuple[str, ...] = ()
    gives: str = "application/json"


def routes(calls: Sequence[Call], sessions: Sessions, check_audit: Callable[[], None]) -> list[Route]:
    """check_audit  raises UserError if what a call changes could not be put on record"""
    return [
        Route(c.path, _endpoint(c, sessions, check_audit), methods=[c.method], name=f"{c.method} {c.path}")
        for c in calls
    ]


def session_of(connection: Any, sessions: Sessions) -> Session | None:
    """Of a request or a WebSocket."""
    cookie = connection.cookies.get(SAFE_COOKIE) or connection.cookies.get(COOKIE) or ""
    return sessions.read(cookie, time.time())


def may(session: Session | None, who: Who) -> bool:
    return who == "anybody" or (session is not None and (who == "viewer" or session.role == "operator"))


def _endpoint(
    call: Call, sessions: Sessions, check_audit: Callable[[], None]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            session = session_of(request, sessions)
            if not may(session, call.who):
                if session is None:
                    return problem(401, "log in first")
                return problem(403, "viewers look; ask an operator to change things")
            request.state.session = session
            body = await _body(request, call)
            if call.method != "GET":
                await asyncio.to_thread(check_audit)
            return await call.work(request, body)
        except TooLong:
            return problem(413, "too long")
        except UserError as error:
            return problem(400, str(error))
        except HTTPException:
            raise
        except Exception:
            log.exception("%s %s failed", call.method, call.path)
            return problem(500, "a fault of the program; the log says more")

    return endpoint


async def _body(request: Request, call: Call) -> Any:
    if call.takes is None:
        return None
    if call.takes is bytes:
        return await request.body()
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, "expected application/json")
    data = await request.body()
    if len(data) > MOST_JSON:
        raise TooLong
    assert issubclass(call.takes, BaseModel)
    try:
        return call.takes.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    except (ValueError, RecursionError):
        raise UserError("expected JSON") from None


def problem(status: int, text: str, **more: Any) -> JSONResponse:
    """An answer that says what went wrong, without secrets."""
    return answer({"error": redact(text), **more}, status)


def answer(content: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status_code=status)


async def on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail))


# --- OpenAPI ----------------------------------------------------------------------------------------------------------


def openapi(calls: Sequence[Call]) -> dict[str, Any]:
    """The description of all calls, version 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for call in calls:
        operation: dict[str, Any] = {
            "summary": call.says, "operationId": _identifier(call),
            "responses": {
                "200": {"description": "done", "content": {call.gives: {}}},
                **({} if call.who == "anybody" else {"401": {"description": "not logged in"}}),
                **({"403": {"description": "for operators only"}} if call.who == "operator" else {}),
                **({"400": {"description": "what was wrong, in `error`"}} if call.takes else {}),
            },
        }  # fmt: skip
        names = [part[1:-1].partition(":")[0] for part in call.path.split("/") if part.startswith("{")]
        parameters = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
        parameters += [{"name": n, "in": "query", "required": False, "schema": {"type": "string"}} for n in call.query]
        if parameters:
            operation["parameters"] = parameters
        if call.takes is bytes:
            binary = {"schema": {"type": "string", "format": "binary"}}
            operation["requestBody"] = {"required": True, "content": {"application/octet-stream": binary}}
        elif call.takes is not None:
            assert issubclass(call.takes, BaseModel)
            schema = call.takes.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[call.takes.__name__] = schema
            reference = {"$ref": f"#/components/schemas/{call.takes.__name__}"}
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        if call.who != "anybody":
            operation["security"] = [{"session": []}]
        path = call.path.replace(":path}", "}")
        paths.setdefault(path, {})[call.method.lower()] = operation
    cookie = {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": f"over TLS: {SAFE_COOKIE}"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "personsearch: the operator's page", "version": __version__,
            "description": "All that the page does. Calls other than GET need the header Origin, the page's own.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"session": cookie}},
    }  # fmt: skip


def _identifier(call: Call) -> str:
    words = [part.strip("{}").partition(":")[0] for part in call.path.removeprefix("/api/").split("/")]
    return "_".join([call.method.lower(), *words]).replace(".", "_")


def encoded(content: Any) -> str:
    """JSON on one line, for streams of events."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
