"""Makes one call several times, within one time limit, until somebody answers it.

A renewal that fails costs this process its lock, so that one lost connection, or one server that hangs, must
not make it fail while another server could answer. Lock and Release may be repeated: for one owner they are
idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reconcile.errors import DockerCacheError, Unavailable

PAUSE = 0.25
"""Seconds between the first attempt that has failed and the next one; it doubles with each that fails."""

LONGEST_PAUSE = 1.0

T = TypeVar("T")


async def until_answered(
    attempt: Callable[[], Awaitable[T]],
    *,
    limit: float,
    patience: float,
    late: Callable[[], DockerCacheError],
) -> T:
    """Make attempts until one of them gets an answer.

    A further attempt begins shortly after one has failed, and beside those that have been silent for too
    long, whose answers still count.

    Args:
        attempt: Makes the call once.
        limit: Seconds for all attempts together.
        patience: Seconds of silence after which a further attempt begins.
        late: Makes the error that tells that nobody has answered in time.

    Raises:
        Unavailable: Of the last attempt that has failed by itself, or `late` where none has.
        DockerCacheError: The answer, where it is an error.
    """
    loop = asyncio.get_running_loop()
    end, ended = loop.time() + limit, asyncio.Queue[T | DockerCacheError]()

    async def run() -> None:
        try:
            ended.put_nowait(await attempt())
        except DockerCacheError as error:
            ended.put_nowait(error)

    async def first_answer(begin_attempt: Callable[[], object]) -> T | DockerCacheError:
        last, begin, pause = None, loop.time(), PAUSE
        while loop.time() < end:
            if loop.time() >= begin:
                begin_attempt()
                begin = loop.time() + patience
            try:
                async with asyncio.timeout_at(min(begin, end)):
                    answer = await ended.get()
            except TimeoutError:
                continue
            if not isinstance(answer, Unavailable):
                return answer
            last, begin = answer, min(begin, loop.time() + pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return last or late()

    async with asyncio.TaskGroup() as tasks:
        attempts = list[asyncio.Task[None]]()
        answer = await first_answer(lambda: attempts.append(tasks.create_task(run())))
        for task in attempts:
            task.cancel()
    if isinstance(answer, DockerCacheError):
        raise answer
    return answer
