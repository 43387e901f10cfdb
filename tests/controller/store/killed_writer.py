"""A process that works on a store until it kills itself before its n-th statement or commit.

Run as `python -m tests.controller.store.killed_writer DATABASE_URL JOURNAL_KEY SEED DIES_AT`. Each line that
it prints is a write that was acknowledged.
"""

import asyncio
import itertools
import os
import random
import signal
import sys
import uuid
from dataclasses import replace

from sqlalchemy import Engine, event

from controller.store.opening import Store
from reconcile.records import JobState
from tests.controller.store.samples import binding, digest, image, job, migration
from tests.stores import open_store


def die_at(count: int) -> None:
    """Kill this process at the n-th thing that it asks of the database."""
    asked = itertools.count(1)

    def step(*_: object) -> None:
        if next(asked) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(Engine, name, step)


def report(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the lines are for the test


async def work(store: Store, random_source: random.Random) -> None:
    for interrupted in await store.records.list_open_jobs():
        await store.records.save_job(replace(interrupted, state=JobState.FAILED))
    while True:
        name = uuid.uuid4().hex
        await store.records.add_job(job(name), binding(name, task=name, app=name))
        report("job", name)
        await store.records.save_job(job(name, state=JobState.COPYING))
        content = digest(random_source.randrange(100, 120))
        guid = await store.records.reserve_guid(content)
        report("guid", content, guid)
        await store.journal.save_migration(migration(name))
        report("migration", name)
        done = replace(job(name, state=JobState.CACHED), cache_guid=guid)
        await store.records.finish_job(done, image(guid, platform=content), (digest(1), content))
        report("cached", name)


async def main(url: str, journal_key: str, seed: str, dies_at: str) -> None:
    die_at(int(dies_at))
    async with open_store(url, journal_key=journal_key.encode(), run_id=seed) as store:
        await work(store, random.Random(seed))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
