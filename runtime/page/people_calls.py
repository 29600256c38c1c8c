"""Calls: who is enrolled; names, labels, notes and expiry dates; merging; taking changes back; removing, forgetting."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.config import Settings
from personsearch.core.errors import GalleryError, UserError
from personsearch.core.text import whole_number
from personsearch.runtime.decisions.names import MAX_NAME
from personsearch.runtime.decisions.person import MAX_LABEL, MAX_LABELS, MAX_NOTE, expiry_date
from personsearch.runtime.operations.erasers import erasers_of
from personsearch.runtime.operations.forget import forget, outlook
from personsearch.runtime.operations.receipt import summary
from personsearch.runtime.page.calls import Call, answer, problem
from personsearch.runtime.page.parts import Parts

WAIT_S = 20.0  # for the stream to take over a gallery without somebody


class Details(Settings):
    """What is left out stays. `expires` is the last day on which the person is looked for (2027-01-31), empty for no
    end."""

    name: str | None = Field(None, max_length=MAX_NAME * 2)
    labels: list[str] | None = Field(None, max_length=MAX_LABELS)
    note: str | None = Field(None, max_length=MAX_NOTE)
    expires: str | None = Field(None, max_length=40)


class Merge(Settings):
    """`other` and `into` are one person, who is called `into` from now on."""

    into: str = Field(max_length=MAX_NAME * 2)
    other: str = Field(max_length=MAX_NAME * 2)


class Name(Settings):
    name: str = Field(max_length=MAX_NAME * 2)


class Confirmed(Settings):
    """confirm  the name again: this cannot be taken back"""

    confirm: str = Field(max_length=MAX_NAME * 2)


def calls(parts: Parts) -> list[Call]:
    one_at_a_time = asyncio.Lock()

    async def people(request: Request, _: Any) -> Response:
        await parts.seen.note(request.state.session, "people")
        return answer(await asyncio.to_thread(parts.people.shown))

    async def portrait(request: Request, _: Any) -> Response:
        name = request.path_params["name"]
        await parts.seen.note(request.state.session, "portraits", person=parts.people.id_of(name))
        views = (await asyncio.to_thread(parts.people.gallery)).views_of(name)
        number = whole_number(request.path_params["view"], len(views) - 1)
        crop = views[number].crop if number is not None else None
        return Response(crop.jpeg, media_type="image/jpeg") if crop else problem(404, "no picture is kept of this view")

    async def changed(request: Request, kind: str, ids: list[str], **facts: Any) -> None:
        """On record, and told to the stream."""
        parts.audit(f"page.{kind}", user=request.state.session.name, people=ids, **facts)
        await parts.reload()

    async def describe(request: Request, body: Details) -> Response:
        details: dict[str, Any] = {}
        if body.labels is not None:
            details["labels"] = tuple(dict.fromkeys(label.strip() for label in body.labels if label.strip()))
            if any(len(label) > MAX_LABEL for label in details["labels"]):
                raise UserError(f"a label has at most {MAX_LABEL} characters")
        if body.note is not None:
            details["note"] = body.note.strip()
        if body.expires is not None:
            details["expires"] = expiry_date(body.expires.strip())
        person = await asyncio.to_thread(parts.people.describe, request.path_params["name"], body.name, details)
        await changed(request, "described", [person.id], what=sorted(body.model_fields_set))
        return answer({"name": person.name})

    async def remove(request: Request, _: Any) -> Response:
        person = await asyncio.to_thread(parts.people.remove, request.path_params["name"])
        await changed(request, "removed", [person.id], views=len(person.views))
        return answer({"views": len(person.views)})

    async def merge(request: Request, body: Merge) -> Response:
        ids = await asyncio.to_thread(parts.people.merge, body.into, body.other)
        await changed(request, "merged", ids)
        return answer({"name": parts.people.name_of(ids[0])})

    async def unmerge(request: Request, body: Name) -> Response:
        ids = await asyncio.to_thread(parts.people.unmerge, body.name)
        await changed(request, "unmerged", ids)
        return answer({"names": [parts.people.name_of(i) for i in ids]})

    async def undo(request: Request, _: Any) -> Response:
        change = await asyncio.to_thread(parts.people.undo)
        await changed(request, "undone", sorted(change.people), change=change.kind)
        return answer({"kind": change.kind, "names": [parts.people.name_of(i) for i in sorted(change.people)]})

    def erasers() -> Any:
        return erasers_of(parts.people.path, parts.options.history, parts.options.recordings)

    async def look_ahead(request: Request, _: Any) -> Response:
        try:
            return answer(await asyncio.to_thread(outlook, parts.people.place, request.path_params["name"], erasers()))
        except GalleryError as error:
            return problem(404, str(error))

    async def erase(request: Request, body: Confirmed) -> Response:
        name, loop = request.path_params["name"], asyncio.get_running_loop()
        if body.confirm != name:
            raise UserError(f"confirm: expected '{name[:64]}' again, since this cannot be taken back")
        async with one_at_a_time:
            receipt = await asyncio.to_thread(
                forget, parts.people.place, name, erasers(), WAIT_S,
                lambda: asyncio.run_coroutine_threadsafe(parts.reload(), loop).result(),
            )  # fmt: skip
        await asyncio.to_thread(parts.people.renew)
        parts.forget_erased()
        parts.audit("forgotten", user=request.state.session.name, person=receipt["person"],
                    complete=receipt["complete"])  # fmt: skip
        return answer({"receipt": receipt, "words": summary(receipt)})

    return [
        Call("GET", "/api/people", "viewer", "Who is enrolled: labels, note, expiry date, the quality of each view, "
             "who was merged; and the latest change, which could be taken back.", people),
        Call("GET", "/api/portraits/{view}/{name:path}", "operator", "The picture that a view was made of, if kept.",
             portrait, gives="image/jpeg"),
        Call("PATCH", "/api/people/{name:path}", "operator", "Rename; change labels, note and expiry date.", describe,
             Details),
        Call("DELETE", "/api/people/{name:path}", "operator", "Remove with all views; can be taken back.", remove),
        Call("POST", "/api/people/merge", "operator", "Two records are one person.", merge, Merge),
        Call("POST", "/api/people/unmerge", "operator", "Whoever was merged under this name is a person again.",
             unmerge, Name),
        Call("POST", "/api/people/undo", "operator", "Take back the latest change of who is enrolled.", undo),
        Call("GET", "/api/forget/{name:path}", "operator", "What forgetting this person would erase.", look_ahead),
        Call("POST", "/api/forget/{name:path}", "operator", "Erase a person for good, as personsearch-forget does; "
             "gives the receipt.", erase, Confirmed),
    ]  # fmt: skip
