"""Blocking work in threads: its results, its errors, and its end when it is cancelled."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.threads import Cancellation, Stopped, in_parallel, in_thread


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
