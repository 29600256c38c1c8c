"""Calls: cameras, zones and thresholds of cams.yaml, and the curves that thresholds come from."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.config import load_settings
from personsearch.core.odds import Odds, false_names_per_day, rate_for
from personsearch.runtime.decisions.calibration import calibration_file, load_calibration
from personsearch.runtime.decisions.evidence import share_of
from personsearch.runtime.decisions.judge import MAIN
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.page.calls import Call, answer
from personsearch.runtime.page.cams import Change
from personsearch.runtime.page.parts import Parts
from personsearch.runtime.settings import StreamSettings

TARGETS = np.geomspace(0.01, 1000, 51)  # false names a day, for which the curve says the similarity


def calls(parts: Parts) -> list[Call]:
    async def settings(_: Request, __: Any) -> Response:
        return answer(await asyncio.to_thread(parts.cams.shown))

    async def change(request: Request, body: Change) -> Response:
        what = await asyncio.to_thread(parts.cams.change, body, request.state.session.name)
        if what:
            parts.audit("page.settings", user=request.state.session.name, what=what)
            await parts.reload()
        return answer({"changed": what, **parts.cams.shown()})

    async def undo(request: Request, _: Any) -> Response:
        what = await asyncio.to_thread(parts.cams.undo)
        parts.audit("page.settings_undone", user=request.state.session.name, what=what)
        await parts.reload()
        return answer({"undone": what, **parts.cams.shown()})

    async def curves(_: Request, __: Any) -> Response:
        return answer(await asyncio.to_thread(all_curves))

    def all_curves() -> dict[str, Any]:
        match = load_settings(parts.cams.path, StreamSettings).match
        people = len(parts.people.gallery().people)
        measured = load_calibration(calibration_file(parts.people.path), parts.manifest.model_hash)
        odds = {"": odds_of(parts.manifest, parts.options.engine)} | {n: c.odds for n, c in measured.items()}
        passers = {name: c.passers_by_per_day for name, c in measured.items()}
        return {
            "people": people,
            "curves": [
                curve(name, one, people, passers.get(name) or match.passers_by_per_day) for name, one in odds.items()
            ],
        }  # fmt: skip

    return [
        Call("GET", "/api/settings", "viewer", "What the page may change, the file's version, and what can be undone.",
             settings),
        Call("PATCH", "/api/settings", "operator", "Change zones, limits and thresholds; comments in the file stay.",
             change, Change),
        Call("POST", "/api/settings/undo", "operator", "Take the latest change back.", undo),
        Call("GET", "/api/curves", "viewer", "How often strangers reach which similarity, by camera ('' is the model's "
             "own), and which similarity belongs to how many false names a day.", curves),
    ]  # fmt: skip


def curve(camera: str, odds: Odds, people: int, passers_by: float) -> dict[str, Any]:
    """impostor  (similarity, share of pairs of different people that reach it)
    targets   (false names a day, similarity that is asked for at the main look)
    least     false names a day below which the data say nothing
    """
    rates = [rate_for(float(wanted), people, passers_by) for wanted in TARGETS]
    return {
        "camera": camera, "impostor": [list(point) for point in odds.impostor], "pairs": odds.pairs,
        "source": odds.source, "passers_by_per_day": passers_by,
        "targets": [
            [float(f"{wanted:.3g}"), round(odds.similarity_for(rate * share_of(MAIN)), 4)]
            for wanted, rate in zip(TARGETS.tolist(), rates, strict=True)
        ],
        "least": float(f"{false_names_per_day(odds.least_rate / share_of(MAIN), max(1, people), passers_by):.3g}"),
    }  # fmt: skip
