"""Calls: how the box is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from personsearch.core.config import load_settings
from personsearch.runtime.operations.examination import examine_beside
from personsearch.runtime.page.calls import Call, answer
from personsearch.runtime.page.parts import Parts
from personsearch.runtime.settings import StreamSettings


def calls(parts: Parts) -> list[Call]:
    async def state(_: Request, __: Any) -> Response:
        now = await parts.control_state()
        return answer({key: value for key, value in now.items() if key not in ("id", "reply")})

    async def history(_: Request, __: Any) -> Response:
        return answer({"samples": list(parts.samples)})

    def examined() -> list[dict[str, str]]:
        settings = load_settings(parts.options.cams, StreamSettings)
        settings = settings.model_copy(update={"gallery": parts.options.gallery})
        found = examine_beside(settings, Path(parts.options.bundle))
        return [{"part": f.part, "state": f.state, "text": f.text} for f in found]

    async def doctor(_: Request, __: Any) -> Response:
        return answer({"findings": await asyncio.to_thread(examined)})

    return [
        Call("GET", "/api/state", "viewer", "Cameras, engine, disk and latency at this moment.", state),
        Call("GET", "/api/history", "viewer", "The same every five seconds of the last hour, for plots.", history),
        Call("GET", "/api/doctor", "viewer", "What personsearch-doctor says of machine, clock, disk and files, without "
             "what would disturb the stream (engines, cameras, ports).", doctor),
    ]  # fmt: skip
