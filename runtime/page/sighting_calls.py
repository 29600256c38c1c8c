"""Calls: who was seen, and why that was decided."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.errors import UserError
from personsearch.core.text import whole_number
from personsearch.runtime.page.calls import Call, answer, problem
from personsearch.runtime.page.parts import Parts
from personsearch.runtime.page.sightings import as_csv
from personsearch.runtime.page.why import compared

PAGE, MOST = 500, 10_000
FILTERS = ("person", "camera", "kind", "since", "until", "text")
LIKE = 4  # pictures of the same name beside the one that is looked at


def calls(parts: Parts) -> list[Call]:
    def filtered(request: Request) -> Any:
        return parts.sightings.chosen(**{key: request.query_params.get(key, "") for key in FILTERS})

    def asked_for(request: Request) -> dict[str, str]:
        """For the audit log: whom and where; ids instead of names."""
        person = request.query_params.get("person", "")
        return {
            "person": parts.people.id_of(person) if person else "",
            "camera": request.query_params.get("camera", ""),
        }

    async def sightings(request: Request, _: Any) -> Response:
        await parts.seen.note(request.state.session, "sightings", **asked_for(request))
        begin, count = (_number(request, "from", 0), _number(request, "count", PAGE))
        rows = list(islice(filtered(request), begin, begin + min(count, MOST) + 1))
        more = len(rows) > min(count, MOST)
        return answer({"rows": [parts.shown(row) for row in rows[: min(count, MOST)]], "more": more})

    async def sighting(request: Request, _: Any) -> Response:
        row = parts.sightings.rows.get(request.path_params["row"])
        if row is None:
            return problem(404, "this sighting is not kept any more")
        await parts.seen.note(request.state.session, "sighting", row=row.id)
        return answer(parts.shown(row))

    async def picture(request: Request, _: Any) -> Response:
        kept = parts.keeper.get(request.path_params["row"])
        if kept is None or not kept.jpeg:
            return problem(404, "no picture is kept of it")
        return Response(kept.jpeg, media_type="image/jpeg")

    async def why(request: Request, _: Any) -> Response:
        row = parts.sightings.rows.get(request.path_params["row"])
        if row is None:
            return problem(404, "this sighting is not kept any more")
        await parts.seen.note(request.state.session, "sighting", row=row.id)
        try:
            views = await parts.views_of_row(row.id)
        except UserError:
            views = []
        alike = (r.id for r in parts.sightings.chosen(person=row.guess) if row.guess and r.id != row.id)
        like = islice((r for r in alike if (kept := parts.keeper.get(r)) and kept.jpeg), LIKE)
        return answer({"like": list(like), **await asyncio.to_thread(compared, parts, views, row.guess)})

    async def export_json(request: Request, _: Any) -> Response:
        parts.audit("page.export", user=request.state.session.name, form="json", **asked_for(request))
        rows = [row.shown() | {"answer": parts.answer_word(row.id)} for row in islice(filtered(request), MOST)]
        given = answer({"rows": rows})
        given.headers["content-disposition"] = 'attachment; filename="sightings.json"'
        return given

    async def export_csv(request: Request, _: Any) -> Response:
        parts.audit("page.export", user=request.state.session.name, form="csv", **asked_for(request))
        rows = ((row, parts.answer_word(row.id)) for row in islice(filtered(request), MOST))
        text = "\ufeff" + as_csv(rows)  # the mark makes spreadsheets read UTF-8
        headers = {"content-disposition": 'attachment; filename="sightings.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    return [
        Call("GET", "/api/sightings", "viewer", "Visits, newest first; `from` and `count` choose a part.", sightings,
             query=(*FILTERS, "from", "count")),
        Call("GET", "/api/sightings/{row}", "viewer", "One visit.", sighting),
        Call("GET", "/api/sightings/{row}/picture.jpg", "viewer", "A small picture, if one is kept.", picture,
             gives="image/jpeg"),
        Call("GET", "/api/sightings/{row}/why", "viewer", "The views that were seen against those enrolled, as the "
             "judge compares them, and other sightings of the same name.", why),
        Call("GET", "/api/export/sightings.json", "viewer", "Up to 10,000 visits.", export_json, query=FILTERS),
        Call("GET", "/api/export/sightings.csv", "viewer", "The same for spreadsheets.", export_csv, query=FILTERS,
             gives="text/csv"),
    ]  # fmt: skip


def _number(request: Request, key: str, otherwise: int) -> int:
    number = whole_number(request.query_params.get(key, ""))
    return otherwise if number is None else number
