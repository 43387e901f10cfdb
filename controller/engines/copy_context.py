"""Defines what the steps of one copy share, and the threads and buffers that all copies share."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from controller.engines.copy_limits import CopyLimits
from controller.engines.progress import ProgressMeter
from controller.engines.single_flight import SingleFlight
from controller.registry.oci.repository import Repository
from controller.threads import Cancellation


class TransferResources:
    """Threads and buffers of all copies of an engine; close them when the copies have ended.

    Attributes:
        limits: Of every copy.
        single_flight: Keeps two copies from uploading the same blob at the same time.
        workers: Threads that copy blobs.
        executor: Threads that start an upload while a worker opens the blob at its source; they never
            wait for other threads.
    """

    def __init__(self, limits: CopyLimits) -> None:
        self.limits = limits
        self.single_flight = SingleFlight()
        # Each copy has as many as it may use at a time, and one that waits for them inside another call.
        most = limits.copies_at_a_time * (limits.blobs_at_a_time + 1)
        self.workers = ThreadPoolExecutor(most, thread_name_prefix="copy-blob")
        self.executor = ThreadPoolExecutor(most, thread_name_prefix="start-upload")
        self._buffers = threading.local()

    def buffer(self) -> memoryview:
        """Return the one buffer of the current thread, which keeps it from copy to copy."""
        buffer: memoryview | None = getattr(self._buffers, "buffer", None)
        if buffer is None:
            buffer = self._buffers.buffer = memoryview(bytearray(self.limits.buffer))
        return buffer

    def close(self) -> None:
        """End the threads."""
        for threads in (self.workers, self.executor):
            threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class CopyContext:
    """What the steps of one copy share."""

    source: Repository
    target: Repository
    meter: ProgressMeter
    cancellation: Cancellation
    resources: TransferResources

    @property
    def limits(self) -> CopyLimits:
        """The limits of the copy."""
        return self.resources.limits
