"""Ends tasks for sure."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel until they are over; what they raise is left to them. A cancellation may get lost: `wait_for`, which
    the libraries use, swallows it before Python 3.12 when what it waited for comes at the same moment."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
