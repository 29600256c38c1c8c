"""Calls: logging in and out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.config import Settings
from personsearch.runtime.page.access import CONSOLE, MOST_LETTERS, SESSION_S
from personsearch.runtime.page.calls import COOKIE, SAFE_COOKIE, Call, answer, problem, session_of
from personsearch.runtime.page.parts import Parts


class Login(Settings):
    """Name and password, or the key that the stream's log shows while nobody has a password."""

    name: str = Field("", max_length=64)
    password: str = Field("", max_length=MOST_LETTERS)
    key: str = Field("", max_length=100)


def calls(parts: Parts) -> list[Call]:
    one_at_a_time = asyncio.Semaphore(2)  # each check of a password takes 64 MB for a while

    async def login(request: Request, body: Login) -> Response:
        address = request.client.host if request.client else ""
        if (wait := parts.attempts.wait_s(address, time.monotonic())) > 0:
            refused = problem(429, f"too many attempts; wait {wait:.0f} s")
            refused.headers["retry-after"] = f"{wait:.0f}"
            return refused
        name = CONSOLE if body.key else body.name
        if body.key:
            good = parts.sessions.enter(body.key)
        else:
            async with one_at_a_time:
                good = await asyncio.to_thread(parts.users.check, body.name, body.password) is not None
        if not good:
            parts.attempts.failed(address, time.monotonic())
            parts.audit("page.login_refused", user=body.name, address=address)
            return problem(401, "that is not right")
        parts.audit("page.login", user=name, address=address)
        encrypted = parts.options.settings.encrypted
        response = answer({"name": name})
        response.set_cookie(
            SAFE_COOKIE if encrypted else COOKIE, parts.sessions.open(name, time.time()), max_age=int(SESSION_S),
            path="/", secure=encrypted, httponly=True, samesite="strict",
        )  # fmt: skip
        return response

    async def logout(request: Request, _: Any) -> Response:
        parts.revoke(request.state.session)
        parts.audit("page.logout", user=request.state.session.name)
        response = answer({})
        for name in (COOKIE, SAFE_COOKIE):
            response.delete_cookie(name, path="/", secure=name == SAFE_COOKIE, httponly=True, samesite="strict")
        return response

    async def me(request: Request, _: Any) -> Response:
        session = session_of(request, parts.sessions)
        first = parts.sessions.first
        if session is None:
            return answer({"name": None, "role": None, "first": first})
        return answer({"name": session.name, "role": session.role, "first": first})

    return [
        Call("POST", "/api/login", "anybody", "Log in; the answer sets a cookie.", login, Login),
        Call("POST", "/api/logout", "viewer", "Log out: the cookie is worth nothing from then on.", logout),
        Call("GET", "/api/me", "anybody", "Who is logged in, and whether anybody has a password yet.", me),
    ]
