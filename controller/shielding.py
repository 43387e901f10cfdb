"""Awaits work so that a cancellation of its caller neither breaks it off half done nor is hidden by it."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def in_own_task(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await work in a task of its own, so that nothing can hide that the caller is cancelled.

    A task group that is cancelled while one of its tasks fails raises the failure alone. A caller that goes
    on after failures would go on then, too, and whoever has cancelled it would wait for its end for ever.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.result()


async def to_the_end(work: Awaitable[ResultT]) -> ResultT:
    """Await work that must not be left half done; a cancelled caller gets its cancellation after the work."""
    call, cancelled = asyncio.ensure_future(work), None
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return call.result()
    if not call.cancelled():
        call.exception()  # retrieved, so that asyncio does not report it: the caller gets the cancellation
    raise cancelled
