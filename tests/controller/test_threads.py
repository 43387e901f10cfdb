"""Blocking work in threads: its results, its errors, and its end when it is cancelled."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.threads import Cancellation, Stopped, in_own_task, in_parallel, in_thread, to_the_end


def test_results_come_in_order_whoever_ends_first() -> None:
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(60.0)
        second_is_done.set()
        return item * 10

    assert in_parallel(work, [0, 1], most=2, cancellation=Cancellation()) == [0, 10]


def test_the_first_error_stops_the_others_and_is_raised() -> None:
    cancellation = Cancellation()

    def work(item: int) -> None:
        if item == 0:
            raise ValueError("first")
        cancellation.wait(60.0)

    with pytest.raises(ValueError, match="first"):
        in_parallel(work, [0, 1, 2], most=2, cancellation=cancellation)

    assert cancellation.is_cancelled


def test_items_do_not_start_after_an_error() -> None:
    started: list[int] = []

    def work(item: int) -> None:
        started.append(item)
        raise ValueError("failed")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="failed"):
        in_parallel(work, [0, 1, 2], most=2, cancellation=Cancellation(), pool=pool)

    assert started == [0]


async def test_cancelling_the_caller_shuts_the_sockets_of_the_work_down() -> None:
    cancellation, is_reading = Cancellation(), threading.Event()
    ours, theirs = socket.socketpair()
    ended: list[bytes] = []

    def work() -> None:
        with cancellation.watching(ours):
            is_reading.set()
            ended.append(ours.recv(1))

    with ours, theirs, ThreadPoolExecutor(1) as threads:
        task = asyncio.ensure_future(in_thread(work, threads, cancellation))
        assert await asyncio.to_thread(is_reading.wait, 60.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert ended == [b""]


def test_work_that_is_cancelled_starts_no_wait() -> None:
    cancellation = Cancellation()
    cancellation.cancel()

    with pytest.raises(Stopped):
        cancellation.wait(60.0)
    with pytest.raises(Stopped), cancellation.waking(threading.Condition()):
        pass


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
