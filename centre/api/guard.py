"""Keys at the door: 401 without one that is known, 403 without the scope; log-in attempts are on record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from personsearch.centre.access import Caller, Scope
from personsearch.centre.house import House

_bearer = HTTPBearer(auto_error=False, description="made by `personsearch-centre add-key`")
Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


def caller(request: Request, given: Given) -> Caller:
    found = house_of(request).keys.caller(given.credentials) if given is not None else None
    if found is None:
        raise HTTPException(401, "a key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
    return found


def needs(scope: Scope) -> Callable[..., Caller]:
    def check(found: Annotated[Caller, Depends(caller)]) -> Caller:
        if scope not in found.scopes:
            raise HTTPException(403, f"this key has no scope '{scope}'")
        return found

    return check


def on_record(house: House, who: Caller, kind: str, **facts: Any) -> Awaitable[None]:
    """An entry of the audit log, on disk when it is there. What cannot be on record is not done: await it first."""
    return asyncio.to_thread(house.audit.add, kind, key=who.name, **facts)


HouseOf = Annotated[House, Depends(house_of)]
By = Annotated[Caller, Depends(caller)]
