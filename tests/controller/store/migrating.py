"""A process that opens a store at the same moment as others do.

Run as `python -m tests.controller.store.migrating DATABASE_URL JOURNAL_KEY`: it says when it is ready, starts at
a line on its input, and says when the store is open.
"""

import asyncio
import sys

from tests.stores import open_store


async def main(url: str, journal_key: str) -> None:
    print("ready", flush=True)  # noqa: T201 - the lines are for the test
    await asyncio.to_thread(sys.stdin.readline)
    async with open_store(url, journal_key=journal_key.encode(), run_id="r") as store:
        images = await store.records.list_images()
        print(f"opened with {len(images)} images", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
