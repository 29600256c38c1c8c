"""How the boxes and the centre are: for programs and for Prometheus."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from personsearch.centre.api.guard import HouseOf
from personsearch.centre.api.records import Box
from personsearch.centre.database import visits

health = APIRouter(tags=["health"])


@health.get("/v1/boxes", response_model=list[Box], summary="Boxes and their cameras")
async def boxes(house: HouseOf) -> list[dict[str, Any]]:
    """As far as their events said. A box that is cut off says nothing: see `heard`."""
    async with house.pool.connection() as connection:
        return await visits.boxes(connection)


@health.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics(house: HouseOf) -> Response:
    from personsearch.centre.api.metrics import CONTENT_TYPE, exposition

    return Response(await exposition(house), media_type=CONTENT_TYPE)
