"""Reads the requests of a call that applies a plan: the plan first, and then what asks to stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from controller.admin.documents import SKIPPED
from controller.admin.grpc_status import BadRequest
from protos.admin import admin_pb2 as pb

MOST_ENTRIES = 1_000_000
"""Most entries of a plan that is to be applied, without those that are skipped."""


async def read_plan(
    requests: AsyncIterator[pb.ApplyRequest],
) -> tuple[pb.ApplyOptions, list[pb.PlanEntry]]:
    """Read a plan until its end, without the LRPs and droplets that it skips.

    Raises:
        BadRequest: It has too many entries.
    """
    options, entries = pb.ApplyOptions(), list[pb.PlanEntry]()
    async for request in requests:
        if request.WhichOneof("part") == "options":
            options = request.options
        elif request.WhichOneof("part") == "entry" and request.entry.WhichOneof("entry") not in SKIPPED:
            entries.append(request.entry)
            if request.entry.HasField("end"):
                break
        if len(entries) > MOST_ENTRIES:
            raise BadRequest("plan-too-large", f"a plan has at most {MOST_ENTRIES} entries")
    return options, entries


@asynccontextmanager
async def stop_requested(requests: AsyncIterator[pb.ApplyRequest]) -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set when the caller sends anything after the end of a plan."""
    stop = asyncio.Event()

    async def read() -> None:
        async for _ in requests:
            stop.set()

    reading = asyncio.ensure_future(read())
    try:
        yield stop
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)  # a caller who went away is no error
