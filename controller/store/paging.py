"""Reads long lists a page at a time: what a page costs does not depend on the rows before it.

Each page starts after the key of the last row of the page before. No two rows share a key, and an index
begins with what rows are chosen by and continues with the key.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TypeVar

from controller.store import cached_images, jobs
from controller.store.cached_images import ImageKey
from controller.store.database import Database
from controller.store.jobs import JobKey
from reconcile.records import CachedImage, CacheJob, JobId, JobState

Text = TypeVar("Text", bound=str)

_AT_A_TIME = 500
"""Names that one query takes."""


class SqlPages:
    """Pages of cached images and jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page_images(self, after: ImageKey | None, *, most: int) -> tuple[CachedImage, ...]:
        """List the finished copies after a key, oldest first."""
        return await self._database.read(
            lambda connection: cached_images.list_page(connection, after, most=most)
        )

    async def page_jobs(
        self, states: Collection[JobState], after: JobKey | None, *, most: int
    ) -> tuple[CacheJob, ...]:
        """List the jobs in some states after a key, the latest first."""
        wanted = sorted(frozenset(states))
        return await self._database.read(
            lambda connection: jobs.list_page(connection, wanted, after, most=most)
        )

    async def list_job_ids(
        self, states: Collection[JobState], beginnings: Collection[str]
    ) -> tuple[JobId, ...]:
        """List the ids of jobs in some states that begin with one of some texts."""
        found = dict[JobId, None]()
        for some in _batches(sorted(frozenset(beginnings))):
            listed = partial(jobs.list_ids, states=sorted(states), beginnings=some)
            found.update(dict.fromkeys(await self._database.read(listed)))
        return tuple(found)

    async def find_jobs(self, job_ids: Collection[JobId]) -> tuple[CacheJob, ...]:
        """Find the jobs with some ids."""
        found = list[CacheJob]()
        for some in _batches(sorted(frozenset(job_ids))):
            found += (await self._database.read(partial(jobs.find_many, job_ids=some))).values()
        return tuple(found)


def _batches(names: Sequence[Text]) -> Iterator[Sequence[Text]]:
    for start in range(0, len(names), _AT_A_TIME):
        yield names[start : start + _AT_A_TIME]
