"""Copies images when told to, in one long-running process with one engine, as the daemon does it.

Reads one JSON object per line. `copy` is a list of source reference and target repository: all are copied, as
many at a time as the daemon would, each after a look at what is there, as a cache job does. The answer has
seconds, CPU seconds and peak memory, in bytes above the idle process. `forget` names an image to copy with an
engine made anew, untimed: it then has threads and connections, and knows of no content.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from controller.engines.copy_limits import CopyLimits
from controller.engines.registry_copy import RegistryCopy
from controller.registry.http.settings import RegistrySettings
from controller.registry.registries import Registries
from reconcile.copying_ports import TargetState
from reconcile.references import CacheGuid, CacheRepositories, Digest, parse_image_reference
from reconcile.trust import BlobHolder, Reader, TrustDomain

COPIES_AT_A_TIME = 4


class Holders:
    """Which repository of the private registry got a blob, as the store remembers it."""

    def __init__(self) -> None:
        self.of: dict[Digest, CacheGuid] = {}

    async def find_holders(self, blobs: Iterable[Digest], reader: Reader | None) -> dict[Digest, BlobHolder]:
        """Name a repository that holds it, for each blob that is held; all are of one trust domain."""
        del reader
        return {blob: BlobHolder(self.of[blob]) for blob in blobs if blob in self.of}


def peak_rss() -> int:
    """Read the process's peak memory since the last reset, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> None:
    """Let the peak begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def rss() -> int:
    """Read the process's memory now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cpu_seconds() -> float:
    """Read the CPU time of all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def copy_one(
    engine: RegistryCopy, cache: CacheRepositories, holders: Holders, source: str, guid: str
) -> None:
    """Do what a cache job does."""
    resolved = await engine.resolve(parse_image_reference(source).canonical(), None)
    target = cache.image(CacheGuid(guid))
    known = KNOWN.get(resolved.platform_digest)
    if known == guid and await engine.is_present(target, resolved.platform_digest):
        return
    state = TargetState.EMPTY if known is None else TargetState.OWN
    copied = await engine.copy(resolved, target, None, state=state, reader=READER)
    KNOWN[resolved.platform_digest] = guid
    for blob in copied.blobs:
        holders.of[blob] = CacheGuid(guid)


KNOWN: dict[Digest, str] = {}
READER = Reader(TrustDomain("registry source"))
"""Reads without a login, all in one trust domain."""


async def main(source: str, destination: str) -> None:
    """Serve commands until standard input ends."""
    plain = RegistrySettings(plain_http=True, any_address=True)
    holders, cache = Holders(), CacheRepositories(destination)
    registries = Registries({source: plain, destination: plain})

    def new_engine() -> RegistryCopy:
        # It keeps the connections, and knows nothing of what an emptied registry once held.
        return RegistryCopy(registries, cache, holders, limits=CopyLimits(copies_at_a_time=COPIES_AT_A_TIME))

    engine, idle = new_engine(), rss()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if "forget" in command:
            engine = new_engine()
            for _ in range(2):  # the second time it is there, which other threads find out
                await copy_one(engine, cache, holders, command["forget"], "warm-up")
            holders.of.clear()
            KNOWN.clear()
            print(json.dumps({}), flush=True)
            continue
        reset_peak()
        cpu, begun = cpu_seconds(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for reference, guid in command["copy"]:
                group.create_task(copy_one(engine, cache, holders, reference, guid))
        seconds = time.perf_counter() - begun
        answer = {
            "seconds": seconds,
            "cpu": cpu_seconds() - cpu,
            "peak": peak_rss() - idle,
            "rss": peak_rss(),
        }
        print(json.dumps(answer), flush=True)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
