"""Calls: the review of those who were nearly named, and of names that surprise."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.config import Settings
from personsearch.core.errors import UserError
from personsearch.runtime.decisions.names import MAX_NAME
from personsearch.runtime.operations.reviews import Answer
from personsearch.runtime.page.calls import Call, answer
from personsearch.runtime.page.link import StreamError
from personsearch.runtime.page.parts import Parts
from personsearch.runtime.page.people import Added
from personsearch.runtime.page.reviewing import effect
from personsearch.runtime.page.sightings import Row

PAGE = 500
LIKE = 4  # pictures of the same name beside one that is reviewed
RECENT = 20  # answers that the page shows for taking them back
OUTCOMES = {
    "told": "Whoever was told another name is told this now.",
    "later": "The visit goes on: its name is corrected while it lasts, or at its end.",
    "unchanged": "The visit has another name by now, which stays.",
}
OTHERWISE = 0.03  # min_margin until the stream has told its own


class Review(Settings):
    """yes: the name is right; no: it is not, which its views show from now on; name: it is somebody else."""

    answer: Literal["yes", "no", "name"]
    name: str = Field("", max_length=MAX_NAME)


def calls(parts: Parts) -> list[Call]:
    one_at_a_time = asyncio.Lock()

    def waiting() -> list[tuple[Row, str]]:
        """Rows that nobody answered, the newest first, and why each waits. Views are kept for some time only."""
        answered, margin = parts.reviewing.all(), parts.min_margin or OTHERWISE
        found = []
        for row in parts.sightings.chosen():
            kept = parts.keeper.get(row.id)
            open_yet = kept is not None and kept.views and row.guess and row.id not in answered
            if open_yet and (why := row.surprise(margin)):
                found.append((row, why))
        return found

    async def review(request: Request, _: Any) -> Response:
        await parts.seen.note(request.state.session, "review")
        rows, found = [], waiting()
        for row, why in found[:PAGE]:
            alike = (r.id for r in parts.sightings.chosen(person=row.guess) if r.kind != "candidate" and r.id != row.id)
            like = islice((r for r in alike if (kept := parts.keeper.get(r)) and kept.jpeg), LIKE)
            rows.append(parts.shown(row) | {"like": list(like), "why": why, "guess": row.guess})
        recent = list(parts.reviewing.all().values())[-RECENT:][::-1]
        return answer({
            "rows": rows, "waiting": len(found), "answered": parts.reviewing.counts(),
            "recent": [
                {"row": a.row, "answer": a.answer, "said": parts.people.name_of(a.said), "camera": a.camera,
                 "person": parts.people.name_of(a.person) if a.person else "", "time": a.time, "views": len(a.added)}
                for a in recent
            ],
        })  # fmt: skip

    async def decide(request: Request, body: Review) -> Response:
        async with one_at_a_time:
            row = parts.sightings.rows.get(request.path_params["row"])
            if row is None:
                raise UserError("this sighting is not kept any more")
            if row.id in parts.reviewing.all():
                raise UserError("this was answered already; undo that first")
            if not row.guess:
                raise UserError("nobody was named here, so there is nothing to answer")
            if body.answer == "name" and not body.name:
                raise UserError("name: expected who it is")
            added = await learn(row, body)
            said, e, now = parts.people.id_of(row.guess), row.evidence, time.time()
            before, outcome = await tell(row, body.answer, added.id)  # the row follows what is told
            given = Answer(
                row=row.id, kind=row.kind, answer=body.answer, camera=row.camera, said=said,
                person=added.id, similarity=e.get("similarity"), log_likelihood_ratio=e.get("log_likelihood_ratio"),
                views=e.get("views") or 0, added=added.marks, before=before, time=now,
            )  # fmt: skip
            await asyncio.to_thread(parts.reviewing.add, given)
        if added.marks:
            await parts.reload()
        by = request.state.session.name
        parts.audit("page.review", user=by, row=row.id, answer=body.answer, person=added.id, told=before is not None)
        return answer({"row": parts.shown(row), "views": len(added.marks), "outcome": outcome})

    async def tell(row: Row, given: str, person: str) -> tuple[str | None, str]:
        """Correct what consumers were told of a visit. Gives whom it was told to be, if that is not so any more, and
        what comes of it in a sentence."""
        was, becomes = row.person, "" if given == "no" else person
        if row.kind != "sighting" or was == becomes or (given == "yes" and row.name):
            return None, ""
        done, outcome = await correct(row.id, was, becomes)
        return was if done else None, outcome

    async def correct(sighting: str, was: str, person: str) -> tuple[bool, str]:
        """Ids, empty for nobody. Whether the stream does it, and what comes of it in a sentence."""
        try:
            done = await parts.control.correct(sighting, was or None, person or None)
        except StreamError as error:
            return False, str(error)
        return done != "unchanged", OUTCOMES[done]

    async def learn(row: Row, body: Review) -> Added:
        """What the gallery learns of an answer."""
        kept = parts.keeper.get(row.id)
        views = list(kept.views) if kept else []
        if body.answer != "no" and not views:
            raise UserError("the views of this person are not kept any more")
        name = body.name if body.answer == "name" else row.guess
        gone = body.answer == "no" and name not in await asyncio.to_thread(parts.people.gallery)
        if not views or gone:
            return Added("", "", ())
        return await asyncio.to_thread(parts.people.add, name, views, body.answer == "no")

    async def undo(request: Request, _: Any) -> Response:
        async with one_at_a_time:
            number = request.path_params["row"]
            given = parts.reviewing.all().get(number)
            if given is None:
                raise UserError("there is no answer to take back")
            if given.added:
                await asyncio.to_thread(parts.people.take_back, given.person, given.added)
            outcome = ""
            if given.before is not None:
                _, outcome = await correct(number, "" if given.answer == "no" else given.person, given.before)
            await asyncio.to_thread(parts.reviewing.remove, number)
        if given.added:
            await parts.reload()
        parts.audit("page.review_undone", user=request.state.session.name, row=number, person=given.person)
        row = parts.sightings.rows.get(number)
        return answer({"row": parts.shown(row) if row else None, "outcome": outcome})

    async def learned(_: Request, __: Any) -> Response:
        answers = list(parts.reviewing.all().values())
        lookback = await asyncio.to_thread(parts.lookback)
        return answer(effect(answers, lookback.odds("")))

    return [
        Call("GET", "/api/review", "operator", "Best guesses below the threshold, and names that surprise (corrected, "
             "or nearly another), which wait for an answer; what was answered lately.", review),
        Call("GET", "/api/review/effect", "operator", "What the answers say about the likelihood ratio that names rest "
             "on: pairs of one person and of different people, its curve before and after.", learned),
        Call("POST", "/api/review/{row}", "operator", "Answer: `yes` and `name` add views, `no` negative ones. A "
             "name that consumers were told wrongly is corrected, `outcome` says how.", decide, Review),
        Call("POST", "/api/review/{row}/undo", "operator", "Take an answer back, with the views that it added; also "
             "after a restart.", undo),
    ]  # fmt: skip
