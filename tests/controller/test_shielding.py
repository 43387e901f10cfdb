"""Work whose caller is cancelled: it ends before its caller does, and hides no cancellation."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from controller.shielding import in_own_task, to_the_end


@pytest.mark.parametrize("fails", [False, True])
async def test_what_must_not_be_left_half_done_ends_before_whoever_waits_for_it_does(
    fails: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    may_end, done = asyncio.Event(), list[str]()

    async def save() -> None:
        await may_end.wait()
        done.append("saved")
        await asyncio.sleep(0)
        done.append("in force")
        if fails:
            raise ValueError("nobody is told of it")

    waiting = asyncio.create_task(to_the_end(save()))
    await asyncio.sleep(0)
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == ["saved", "in force"]


@pytest.mark.parametrize("run", [to_the_end, in_own_task])
async def test_without_a_cancellation_the_result_or_the_error_is_that_of_the_work(
    run: Callable[[Coroutine[object, object, int]], Coroutine[object, object, int]],
) -> None:
    async def fail() -> int:
        raise ValueError("told")

    assert await run(asyncio.sleep(0, 7)) == 7
    with pytest.raises(ValueError, match="told"):
        await run(fail())


async def test_work_in_a_task_of_its_own_that_fails_does_not_hide_that_its_caller_is_cancelled() -> None:
    """A task group raises the failure alone, where one of its tasks fails while it is cancelled."""

    async def fail_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("told to nobody")

    async def in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_when_cancelled())

    for work, error in [(in_a_group(), ExceptionGroup), (in_own_task(in_a_group()), asyncio.CancelledError)]:
        waiting = asyncio.create_task(work)
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(error):
            await waiting
