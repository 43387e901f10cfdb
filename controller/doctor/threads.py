"""Runs blocking work of a check in a separate thread, so that one that hangs delays no other check."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from controller.threads import Cancellation, in_thread

ResultT = TypeVar("ResultT")


async def in_own_thread(work: Callable[[Cancellation], ResultT]) -> ResultT:
    """Run blocking work; when the caller is cancelled, its requests are cancelled too."""
    cancellation = Cancellation()
    threads = ThreadPoolExecutor(1, thread_name_prefix="doctor")
    try:
        return await in_thread(partial(work, cancellation), threads, cancellation)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
