"""An answer for as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from fastapi import Request
from starlette.exceptions import HTTPException

from planner.web.answers import Answer


async def while_wanted(request: Request, answer: Coroutine[object, None, Answer]) -> Answer:
    """The answer, unless whoever asked goes away: then it is cancelled.

    Raises Busy and Overdue as the workers do, and HTTPException 499 where nobody waits any more.
    """
    task = asyncio.create_task(answer)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
    if task.cancelled() or not task.done():
        raise HTTPException(499, "nobody waits for the answer")
    return await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
