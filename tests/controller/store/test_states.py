"""Whatever is asked of the store, in whatever order, it answers as a plain model of the records does."""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.store.opening import Store
from reconcile.errors import Conflict, NotFound
from reconcile.records import JOB_CHANGES, CacheJob, JobId, JobState
from reconcile.references import CacheGuid
from reconcile.trust import BlobHolder
from tests.controller.store.samples import binding, digest, image, job
from tests.databases import empty_database
from tests.examples import examples
from tests.stores import open_store

names = st.sampled_from(["a", "b", "c"])
contents = st.integers(60, 62)


class Records(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.stack = AsyncExitStack()
        self.records = self.runner.run(self.open()).records
        self.jobs: dict[str, CacheJob] = {}
        self.guids: dict[int, CacheGuid] = {}
        self.finished: set[CacheGuid] = set()

    async def open(self) -> Store:
        url = await asyncio.to_thread(self.empty_url)
        opened = open_store(url, journal_key=Fernet.generate_key(), run_id="r")
        return await self.stack.enter_async_context(opened)

    def empty_url(self) -> str:
        return "sqlite://"

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    @rule(name=names, state=st.sampled_from([JobState.QUEUED, JobState.COPYING]))
    def add(self, name: str, state: JobState) -> None:
        try:
            self.runner.run(self.records.add_job(job(name, state=state), binding(name, task=name, app=name)))
        except Conflict:
            assert name in self.jobs
        else:
            assert name not in self.jobs
            self.jobs[name] = job(name, state=state)

    @rule(name=names, state=st.sampled_from(JobState), failure=st.sampled_from(["", "code: detail"]))
    def save(self, name: str, state: JobState, failure: str) -> None:
        before = self.jobs.get(name)
        after = replace(before or job(name), state=state, failure=failure)
        is_legal = before is not None and (state is before.state or state in JOB_CHANGES[before.state])
        has_image = state is not JobState.CACHED or after.cache_guid in self.finished
        try:
            self.runner.run(self.records.save_job(after))
        except NotFound:
            assert before is None
        except Conflict:
            assert not (is_legal and has_image)
        else:
            assert is_legal
            assert has_image
            self.jobs[name] = after

    @rule(content=contents)
    def reserve(self, content: int) -> None:
        guid = self.runner.run(self.records.reserve_guid(digest(content)))
        assert guid == self.guids.setdefault(content, guid)

    @rule(name=names, content=contents)
    def finish(self, name: str, content: int) -> None:
        self.reserve(content)
        guid = self.guids[content]
        before = self.jobs.get(name)
        after = replace(before or job(name), state=JobState.CACHED, cache_guid=guid)
        finishing = self.records.finish_job(after, image(guid, platform=digest(content)), (digest(content),))
        try:
            self.runner.run(finishing)
        except NotFound:
            assert before is None
        except Conflict:
            assert before is not None
            assert before.state not in {JobState.COPYING, JobState.CACHED}
        else:
            self.jobs[name] = after
            self.finished.add(guid)

    @invariant()
    def shows_what_was_saved(self) -> None:
        for name, saved in self.jobs.items():
            assert saved == self.runner.run(self.records.find_job(JobId(name)))
            assert binding(name, task=name, app=name) == self.runner.run(
                self.records.find_binding(f"task:{name}")
            )
        is_open = {JobState.QUEUED, JobState.COPYING}
        expected = {name for name, saved in self.jobs.items() if saved.state in is_open}
        assert expected == {saved.job_id for saved in self.runner.run(self.records.list_open_jobs())}

    @invariant()
    def shows_finished_images_alone(self) -> None:
        assert self.finished == {row.cache_guid for row in self.runner.run(self.records.list_images())}
        for content, guid in self.guids.items():
            holder = self.runner.run(self.records.find_holders([digest(content)], None)).get(digest(content))
            assert (BlobHolder(guid) if guid in self.finished else None) == holder


class RecordsOnPostgresql(Records):
    def empty_url(self) -> str:
        return url_on("postgresql")


class RecordsOnMysql(Records):
    def empty_url(self) -> str:
        return url_on("mysql")


def url_on(kind: str) -> str:
    return empty_database(kind, os.environ.get("PYTEST_XDIST_WORKER", "master"))


SOME = settings(max_examples=examples(gate=6, long=40), stateful_step_count=20, deadline=None)

TestRecords = Records.TestCase
TestRecords.settings = SOME
TestRecordsOnPostgresql = pytest.mark.long(pytest.mark.starts_servers(RecordsOnPostgresql.TestCase))
TestRecordsOnPostgresql.settings = SOME
TestRecordsOnMysql = pytest.mark.long(pytest.mark.starts_servers(RecordsOnMysql.TestCase))
TestRecordsOnMysql.settings = SOME
