"""Runs a function over many items in a bounded number of threads, all or nothing."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from controller.registry.cancellation import Cancellation, Stopped

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def in_parallel(
    function: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, most: int, cancellation: Cancellation
) -> list[ResultT]:
    """Give the results in order; the first error stops the others at once and is raised.

    The cancellation is spent after an error.
    """
    if len(items) <= 1 or most <= 1:
        return [function(item) for item in items]
    errors: list[BaseException] = []
    with ThreadPoolExecutor(min(most, len(items)), thread_name_prefix="copy-blob") as pool:
        futures = [pool.submit(function, item) for item in items]
        for future in as_completed(futures):
            error = future.exception()
            if error is not None:
                cancellation.cancel()
                errors.append(error)
    for error in errors:
        if not isinstance(error, Stopped):
            raise error
    return [future.result() for future in futures]
