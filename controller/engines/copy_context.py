"""Defines the objects that all steps of one copy use, and the threads and buffers that all copies share."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from controller.engines.copy_limits import CopyLimits
from controller.engines.open_uploads import OpenUploads
from controller.engines.possession import Possession
from controller.engines.progress import ProgressMeter
from controller.engines.proven_blobs import ProvenBlobs
from controller.engines.single_flight import SingleFlight
from controller.engines.unreliable_sources import UnreliableSources
from controller.registry.oci.repository import Repository
from controller.registry.oci.upload_parts import PartSizes
from controller.threads import Cancellation


class TransferResources:
    """The threads and buffers that all copies of an engine share; close them when the copies have ended.

    Args:
        limits: See below.
        slowest: Bytes per second below which no copy waits for another one's upload of the same blob.

    Attributes:
        limits: The limits of each copy.
        single_flight: Keeps two copies from uploading the same blob at the same time.
        proven: The blobs that were sent or read lately.
        part_sizes: The lengths of the parts in which registries accept uploads.
        unreliable: The sources that broke uploads off lately.
        open_uploads: The uploads that are under way.
        workers: Threads that copy blobs.
        upload_starters: Threads that start an upload session while a worker opens the blob at its source;
            they never wait for other threads.
    """

    def __init__(self, limits: CopyLimits, slowest: float = 0.0) -> None:
        self.limits = limits
        self.single_flight = SingleFlight(slowest)
        self.proven = ProvenBlobs()
        self.part_sizes = PartSizes()
        self.unreliable = UnreliableSources()
        self.open_uploads = OpenUploads()
        # For each copy: one thread for each blob at a time, and one that waits for these.
        max_workers = limits.copies_at_a_time * (limits.blobs_at_a_time + 1)
        self.workers = ThreadPoolExecutor(max_workers, thread_name_prefix="copy-blob")
        self.upload_starters = ThreadPoolExecutor(max_workers, thread_name_prefix="start-upload")
        self._buffers = threading.local()

    def buffer(self) -> memoryview:
        """Return the buffer of the current thread, which is reused from copy to copy."""
        buffer: memoryview | None = getattr(self._buffers, "buffer", None)
        if buffer is None:
            buffer = self._buffers.buffer = memoryview(bytearray(self.limits.buffer))
        return buffer

    def close(self) -> None:
        """Stop the threads, without waiting for them."""
        for threads in (self.workers, self.upload_starters):
            threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class CopyContext:
    """The objects that all steps of one copy use."""

    source: Repository
    target: Repository
    meter: ProgressMeter
    cancellation: Cancellation
    resources: TransferResources
    possession: Possession

    @property
    def limits(self) -> CopyLimits:
        """The limits of the copy."""
        return self.resources.limits
