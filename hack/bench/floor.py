"""What no copier on this machine can beat: reading all blobs to nothing, or pushing them from memory.

Both over bare sockets with the concurrency of the engine; the larger of the two is the floor.
"""

import http.client
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from controller.engines.copy_limits import CopyLimits
from tests.simulators.images import Blob

THREADS = CopyLimits().blobs_at_a_time


def read_to_nothing(address: str, blobs: Sequence[tuple[str, Blob]]) -> float:
    """Time reading blobs, given with their repositories."""

    def read(job: tuple[str, Blob]) -> None:
        repository, blob = job
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("GET", f"/v2/{repository}/blobs/{blob.digest}")
        response = connection.getresponse()
        buffer = bytearray(1024 * 1024)
        while response.readinto(buffer):
            pass
        connection.close()

    return _time(read, blobs)


def push_from_memory(address: str, blobs: Sequence[tuple[str, Blob]]) -> float:
    """Time pushing blobs into an empty registry."""

    def push(job: tuple[str, Blob]) -> None:
        repository, blob = job
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        response = connection.getresponse()
        response.read()
        location = response.headers["Location"].partition("/v2/")[2]
        connection.putrequest("PUT", f"/v2/{location}&digest={blob.digest}")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(len(blob.content)))
        connection.endheaders()
        assert isinstance(connection.sock, socket.socket)
        connection.sock.sendall(blob.content)
        response = connection.getresponse()
        response.read()
        if response.status != http.HTTPStatus.CREATED:
            raise RuntimeError(f"the registry answered {response.status}")
        connection.close()

    return _time(push, blobs)


def _time(work: Callable[[tuple[str, Blob]], None], blobs: Sequence[tuple[str, Blob]]) -> float:
    with ThreadPoolExecutor(THREADS) as threads:
        begun = time.perf_counter()
        list(threads.map(work, blobs))
        return time.perf_counter() - begun
