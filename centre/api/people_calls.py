"""People who are shared with the boxes of a group: who holds copies; enrol, change, remove, forget."""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import replace
from typing import Annotated, Any

import cv2
from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from pydantic import Field

from personsearch.centre.api.guard import By, HouseOf, on_record
from personsearch.centre.api.records import Asked, Fault, Forgetting, SharedPerson
from personsearch.centre.gallery import GroupGallery
from personsearch.centre.house import House
from personsearch.core.errors import DataError
from personsearch.core.pictures import decode_picture
from personsearch.runtime.decisions.gallery_record import MAX_CROP
from personsearch.runtime.decisions.person import MAX_LABEL, MAX_LABELS, MAX_NOTE, Crop, Details, expiry_date

people = APIRouter(tags=["people"])
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Fault}}
Group = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
PersonId = Annotated[str, InPath(pattern=r"^p-[0-9a-f]{12}$")]
MOST_PICTURES, MOST_PIXELS = 10, 50_000_000
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]


class Picture(Asked):
    """A JPEG or PNG in base64, and where the person is in it, in pixels; without a box the person fills the picture."""

    data: str = Field(max_length=2 * MAX_CROP)
    box: tuple[float, float, float, float] | None = Field(None, description="x1, y1, x2, y2")


class New(Asked):
    name: str = Field(min_length=1, max_length=200)
    pictures: list[Picture] = Field(min_length=1, max_length=MOST_PICTURES)
    labels: list[Label] = Field([], max_length=MAX_LABELS)
    note: str = Field("", max_length=MAX_NOTE)
    expires: str = Field("", max_length=10, description="last day, such as 2027-01-31")


class Changes(Asked):
    name: str | None = Field(None, min_length=1, max_length=200)
    labels: list[Label] | None = Field(None, max_length=MAX_LABELS)
    note: str | None = Field(None, max_length=MAX_NOTE)
    expires: str | None = Field(None, max_length=10)


@people.get("/groups/{group}/people", response_model=list[SharedPerson], responses=MISSING, summary="Who is shared")
async def everybody(house: HouseOf, group: Group) -> list[dict[str, Any]]:
    gallery = _gallery(house, group)
    return [found for i in sorted(gallery.people()) if (found := gallery.described(i)) is not None]


@people.get("/groups/{group}/people/{person}", response_model=SharedPerson, responses=MISSING, summary="One person")
async def one(house: HouseOf, group: Group, person: PersonId) -> dict[str, Any]:
    """With what each box of the group holds."""
    found = _gallery(house, group).described(person)
    if found is None:
        raise HTTPException(404, "nobody of that id is shared in this group")
    return found


@people.post("/groups/{group}/people", response_model=SharedPerson, status_code=201, summary="Enrol by pictures")
async def enrol(house: HouseOf, by: By, group: Group, new: New) -> dict[str, Any]:
    """The pictures go to the boxes of the group, sealed; each describes them with its own model, and keeps them only if
    another box's model could need them."""
    gallery = _gallery(house, group)
    pictures = [await asyncio.to_thread(_crop, picture, number) for number, picture in enumerate(new.pictures, start=1)]
    details = Details(tuple(dict.fromkeys(new.labels)), new.note, expiry_date(new.expires))
    await asyncio.to_thread(house.audit.check)
    person = await gallery.enrol(new.name, pictures, details)
    await on_record(house, by, "enrolled", person=person, group=group, pictures=len(pictures))
    found = gallery.described(person)
    assert found is not None
    return found


@people.patch("/groups/{group}/people/{person}", response_model=SharedPerson, responses=MISSING, summary="Change")
async def change(house: HouseOf, by: By, group: Group, person: PersonId, changes: Changes) -> dict[str, Any]:
    """Name and details; what is left out stays."""
    gallery = _known(house, group, person)
    expires = expiry_date(changes.expires) if changes.expires is not None else None

    def changed(details: Details) -> Details:
        labels = tuple(dict.fromkeys(changes.labels)) if changes.labels is not None else details.labels
        note = changes.note if changes.note is not None else details.note
        return replace(details, labels=labels, note=note, expires=details.expires if expires is None else expires)

    await on_record(house, by, "renamed" if changes.name else "described", person=person, group=group)
    await gallery.change(person, changes.name, changed)
    found = gallery.described(person)
    if found is None:
        raise HTTPException(404, "was removed meanwhile")
    return found


@people.delete("/groups/{group}/people/{person}", status_code=204, responses=MISSING, summary="Remove")
async def remove(house: HouseOf, by: By, group: Group, person: PersonId) -> None:
    """Boxes look for the person no longer; what was seen stays, and each box's `--undo` brings him back."""
    gallery = _known(house, group, person)
    await on_record(house, by, "removed", person=person, group=group)
    await gallery.take_out(person, forget=False)


@people.post("/groups/{group}/people/{person}/forget", response_model=Forgetting, summary="Forget for good")
async def forget(house: HouseOf, by: By, group: Group, person: PersonId) -> dict[str, Any]:
    """Erased here at once, and by each box as soon as it can be reached; ask again for who has not confirmed. Somebody
    who is not shared (any more) can be forgotten as well: visits are erased by id."""
    gallery = _gallery(house, group)
    await on_record(house, by, "forgotten", person=person, group=group)
    if person not in gallery.view.forgotten():
        await gallery.take_out(person, forget=True)
    await house.erase(person)
    return _forgetting(gallery, person)


@people.get("/groups/{group}/forgotten", response_model=list[Forgetting], summary="Who has not confirmed an erasure?")
async def forgotten(house: HouseOf, group: Group) -> list[dict[str, Any]]:
    gallery = _gallery(house, group)
    return [_forgetting(gallery, person) for person in gallery.forgotten()]


def _forgetting(gallery: GroupGallery, person: str) -> dict[str, Any]:
    holders = gallery.holders(person)
    left = [row["box"] for row in holders if row["state"] in ("erasing", "silent")]
    return {"id": person, "complete": not left, "not_confirmed": left, "holders": holders}


def _gallery(house: House, group: str) -> GroupGallery:
    found = house.galleries.get(group)
    if found is None:
        raise HTTPException(404, f"there is no group '{group}'; known: {', '.join(sorted(house.galleries)) or 'none'}")
    return found


def _known(house: House, group: str, person: str) -> GroupGallery:
    gallery = _gallery(house, group)
    if person not in gallery.people():
        raise HTTPException(404, "nobody of that id is shared in this group")
    return gallery


def _crop(picture: Picture, number: int) -> Crop:
    """Decoded and written anew as JPEG, so that nothing but pixels goes on. Raises HTTPException."""
    from personsearch.runtime.decisions.enrolment import JPEG

    try:
        data = base64.b64decode(picture.data, validate=True)
    except (ValueError, binascii.Error):
        raise HTTPException(422, f"picture {number}: expected base64") from None
    try:
        pixels = decode_picture(data, f"picture {number}", MOST_PIXELS)
    except DataError as error:
        raise HTTPException(422, str(error)) from None
    if pixels.size > 3 * MOST_PIXELS:
        raise HTTPException(422, f"picture {number}: expected a JPEG or PNG of at most {MOST_PIXELS} pixels")
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = picture.box or (0.0, 0.0, float(width), float(height))
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise HTTPException(422, f"picture {number}: expected x1 < x2, y1 < y2 inside {width}x{height} pixels")
    good, encoded = cv2.imencode(".jpg", pixels, JPEG)
    if not good or len(encoded) > MAX_CROP:
        raise HTTPException(422, f"picture {number}: too large; cut it to the person")
    return Crop(encoded.tobytes(), (x1, y1, x2, y2))
