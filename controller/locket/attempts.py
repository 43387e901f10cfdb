"""Makes one call to Locket several times, within one time limit, until a server answers.

A renewal that fails costs this process its lock. So one lost connection, or one server that hangs, must not
make the renewal fail while another server could answer. Lock and Release may be repeated, since they are
idempotent for one owner.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from controller.backoff import exact_backoff
from reconcile.errors import DockerCacheError, Unavailable

_PAUSE = exact_backoff(0.25, 1.0)
"""Seconds between a failed attempt and the next one."""

T = TypeVar("T")


async def until_answered(
    attempt: Callable[[], Awaitable[T]],
    *,
    limit: float,
    patience: float,
    late: Callable[[], DockerCacheError],
) -> T:
    """Make attempts until one of them gets an answer.

    A further attempt begins shortly after one has failed. It also begins when no attempt has ended for
    `patience`; the silent attempts then go on beside it, and their answers still count.

    Args:
        attempt: Makes the call once.
        limit: Seconds for all attempts together.
        patience: Seconds of silence after which a further attempt begins.
        late: Makes the error that says that no server has answered in time.

    Raises:
        Unavailable: The error of the last attempt that failed, or the error of `late` when none failed.
        DockerCacheError: A server's answer, where it is an error of another kind.
    """
    loop = asyncio.get_running_loop()
    end, ended = loop.time() + limit, asyncio.Queue[T | DockerCacheError]()

    async def run() -> None:
        try:
            ended.put_nowait(await attempt())
        except DockerCacheError as error:
            ended.put_nowait(error)

    async def first_answer(begin_attempt: Callable[[], object]) -> T | DockerCacheError:
        last, begin, failed = None, loop.time(), 0
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
            failed += 1
            last, begin = answer, min(begin, loop.time() + _PAUSE(failed))
        return last or late()

    async with asyncio.TaskGroup() as tasks:
        attempts = list[asyncio.Task[None]]()
        answer = await first_answer(lambda: attempts.append(tasks.create_task(run())))
        for task in attempts:
            task.cancel()
    if isinstance(answer, DockerCacheError):
        raise answer
    return answer
