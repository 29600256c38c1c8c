"""Where somebody was, who looks alike, and one visit's way over boxes."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query

from personsearch.centre.api.guard import By, HouseOf, on_record
from personsearch.centre.api.records import (
    BoxName,
    Fault,
    Moment,
    Part,
    Person,
    Search,
    Searched,
    Sighting,
    Visit,
    WholeVisit,
)
from personsearch.centre.database import visits
from personsearch.centre.database.searching import Filter, of_embedding, of_sighting, search
from personsearch.centre.following import follow
from personsearch.centre.house import House

searching = APIRouter(tags=["search"])
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Fault}}
LAST = datetime.timedelta(hours=24)


@searching.get("/sightings", response_model=list[Visit], summary="Visits; of a person: where was he today?")
async def sightings(
    house: HouseOf, by: By,
    person: Annotated[Person | None, Query(description="id")] = None,
    name: Annotated[str | None, Query(max_length=200, description="as shared with a group's boxes")] = None,
    since: Annotated[Moment | None, Query(description="default: 24 hours ago")] = None,
    until: Moment | None = None,
    box: Annotated[list[BoxName] | None, Query(max_length=1000)] = None,
    before: Annotated[Moment | None, Query(description="`started` of the last one, to go on")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:  # fmt: skip
    """The latest first. Ids stand in the database; names are looked up when asked."""
    if name is not None:
        person = house.person_of(name)
        if person is None:
            raise HTTPException(404, "nobody of that name is shared with the centre")
    now = datetime.datetime.now(datetime.timezone.utc)
    since, until = since or now - LAST, until or now + LAST
    await on_record(house, by, "searched", person=person, since=since.isoformat(), until=until.isoformat())
    async with house.pool.connection() as connection:
        found = await visits.sightings(connection, since, until, person, tuple(box or ()), limit, before)
    return _named(house, found)


@searching.get("/sightings/{sighting}", response_model=WholeVisit, responses=MISSING, summary="One visit")
async def one(house: HouseOf, by: By, sighting: Sighting) -> dict[str, Any]:
    await on_record(house, by, "searched", sighting=sighting)
    async with house.pool.connection() as connection:
        found = await visits.sighting(connection, sighting)
    if found is None:
        raise HTTPException(404, "no such visit is kept")
    return _named(house, [found])[0]


@searching.get("/sightings/{sighting}/way", response_model=list[Part], responses=MISSING, summary="Over boxes")
async def way(house: HouseOf, by: By, sighting: Sighting) -> list[dict[str, Any]]:
    """Visits to other boxes that are taken to be the same person's, by `follow.ways` and looks: a guess, no name."""
    await on_record(house, by, "followed", sighting=sighting)
    async with house.pool.connection() as connection:
        found = await follow(connection, sighting, house.settings.follow)
    if found is None:
        raise HTTPException(404, "no such visit is kept, or nothing of its looks")
    return _named(house, found)


@searching.post("/search", response_model=Searched, responses=MISSING, summary="Who looks alike?")
async def look_for(house: HouseOf, by: By, asked: Search) -> dict[str, Any]:
    """Stays in all boxes, the most alike first. Similar looks are no name: clothes are alike, too."""
    facts = {"since": asked.since.isoformat() if asked.since else None, "boxes": asked.boxes, "cameras": asked.cameras}
    await on_record(house, by, "searched", sighting=asked.sighting, embedding=asked.embedding is not None, **facts)
    wanted = Filter(asked.since, asked.until, tuple(asked.boxes), tuple(asked.cameras))
    async with house.pool.connection() as connection:
        if asked.sighting is not None:
            query = await of_sighting(connection, asked.sighting)
            if query is None:
                raise HTTPException(404, "nothing of that visit's looks is kept")
            vector, model = query
        else:
            given = np.asarray(asked.embedding, np.float32)
            if not np.linalg.norm(given) > 0:
                raise HTTPException(422, "an embedding of zeros shows nobody")
            model = str(asked.model)
            vector, _ = await of_embedding(connection, given, model, asked.camera or "")
        settings, codes = house.settings.search, house.codes
        found = await search(connection, vector, model, wanted, asked.limit, settings, codes, asked.exact)
        people = await visits.people_of(connection, [hit["sighting"] for hit in found.hits])
    hits = [
        {**hit, "person": people.get(hit["sighting"], hit["person"])}
        for hit in found.hits if hit["similarity"] >= asked.least_similarity
    ]  # fmt: skip
    return {"hits": _named(house, hits), "exact": found.exact, "among": found.among, "parameters": found.parameters}


def _named(house: House, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names are resolved late, and stand nowhere in the database."""
    names = house.names()
    return [{**row, "name": names.get(row["person"] or "")} for row in rows]
