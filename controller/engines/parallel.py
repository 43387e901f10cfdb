"""Runs a function over many items in a bounded number of threads, all or nothing."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from controller.registry.cancellation import Cancellation, Stopped

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def in_parallel(
    function: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    *,
    most: int,
    cancellation: Cancellation,
    pool: Executor | None = None,
) -> list[ResultT]:
    """Give the results in order; the first error stops the others at once and is raised.

    The cancellation is spent after an error. Threads are taken from the pool, where one is given,
    which then must have one to spare for each call that waits inside another.
    """
    if len(items) <= 1 or most <= 1:
        return [function(item) for item in items]
    results: dict[int, ResultT] = {}
    errors: list[BaseException] = []
    waiting, lock = iter(enumerate(items)), threading.Lock()

    def run() -> None:
        while not errors:
            with lock:
                following = next(waiting, None)
            if following is None:
                return
            number, item = following
            try:
                results[number] = function(item)
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                errors.append(error)
                cancellation.cancel()

    count = min(most, len(items))
    with _threads(pool, count) as threads:
        wait([threads.submit(run) for _ in range(count)])
    for error in errors:
        if not isinstance(error, Stopped):
            raise error
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]


@contextmanager
def _threads(pool: Executor | None, count: int) -> Iterator[Executor]:
    if pool is not None:
        yield pool
        return
    with ThreadPoolExecutor(count, thread_name_prefix="copy-blob") as own:
        yield own
