"""Copies, jobs and audit entries are listed a page at a time, each once and in order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.admin import queries
from controller.admin.dependencies import AdminDependencies
from controller.admin.grpc_status import BadRequest
from controller.admin.pages import token_from_key
from controller.store.opening import Store
from protos.admin import admin_pb2 as pb
from reconcile.errors import Invalid
from reconcile.lrps import TaskGuid
from reconcile.records import AuditEntry, JobId, JobState, requester_of_task
from reconcile.references import CacheRepositories, parse_image_reference
from tests.controller.store.samples import binding, digest, image, job
from tests.stores import open_store

COUNT = 12
"""Records of each kind; three in a row are of the same moment."""


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as opened:
        yield opened


@pytest.fixture
async def dependencies(store: Store) -> AdminDependencies:
    for number in range(COUNT):
        guid = await store.records.reserve_guid(digest(number))
        source = parse_image_reference(f"registry.example/team-{number % 4}/web:7")
        copy = replace(image(guid, platform=digest(number), created_at=number // 3), source=source)
        await store.records.keep_image(copy, ())
        name = f"{number:04}-job"
        state = JobState.FAILED if number % 2 else JobState.QUEUED
        wanted = replace(binding(name), requester=requester_of_task(TaskGuid(name)), source=source)
        await store.records.add_job(replace(job(name, created_at=number // 3), state=state), wanted)
        await store.operations.add_entry(AuditEntry(number, "CN=ops", f"Call{number}", "{}", "done"))
    stored = SimpleNamespace(records=store.records, pages=store.pages, entries=store.operations)
    jobs = SimpleNamespace(progress=lambda _: None)
    found = SimpleNamespace(stored=stored, cache=CacheRepositories("registry.internal:5000"), jobs=jobs)
    return cast(AdminDependencies, found)


async def leaf(call: Callable[[str], Awaitable[Any]], field: str) -> list[list[Any]]:
    """Read page after page."""
    pages, token = list[list[Any]](), ""
    while not pages or token:
        answer = await call(token)
        pages.append(list(getattr(answer, field)))
        token = answer.next_page_token
    return pages


@pytest.mark.parametrize("size", [1, 2, 5, COUNT, 100])
async def test_copies_are_listed_oldest_first(
    dependencies: AdminDependencies, store: Store, size: int
) -> None:
    def call(token: str) -> Awaitable[Any]:
        request = pb.ListCachedImagesRequest(page_size=size, page_token=token)
        return queries.cached_images(dependencies, request)

    pages = await leaf(call, "images")

    listed = [each.cache_guid for page in pages for each in page]
    assert listed == [each.cache_guid for each in await store.records.list_images()]
    assert all(len(page) == size for page in pages[:-1])
    assert pages[-1]


@pytest.mark.parametrize("at_a_time", [1, 4, 100])
async def test_copies_that_match_globs_are_found_however_many_do_not(
    dependencies: AdminDependencies, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    """A page reads so many copies at most, and may have few rows and a next page."""
    monkeypatch.setattr(queries, "IMAGES_AT_A_TIME", at_a_time)
    monkeypatch.setattr(queries, "MAX_IMAGES_READ", 2 * at_a_time)

    def call(token: str) -> Awaitable[Any]:
        globs = ["registry.example/team-3/*"]
        request = pb.ListCachedImagesRequest(page_size=1, page_token=token, images=globs)
        return queries.cached_images(dependencies, request)

    pages = await leaf(call, "images")

    listed = [each for page in pages for each in page]
    assert [each.source for each in listed] == ["registry.example/team-3/web:7"] * 3
    assert [each.created_at for each in listed] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("size", [1, 2, 5, COUNT, 100])
@pytest.mark.parametrize("states", [(), (JobState.FAILED,), (JobState.QUEUED, JobState.FAILED)])
async def test_jobs_are_listed_latest_first(
    dependencies: AdminDependencies, size: int, states: tuple[JobState, ...]
) -> None:
    names = [f"JOB_STATE_{state.upper()}" for state in states]

    def call(token: str) -> Awaitable[Any]:
        return queries.jobs(dependencies, pb.ListJobsRequest(page_size=size, page_token=token, states=names))

    pages = await leaf(call, "jobs")

    is_failed_only = states == (JobState.FAILED,)
    wanted = [f"{number:04}-job" for number in range(COUNT) if number % 2 or not is_failed_only]
    assert [each.job_id for page in pages for each in page] == wanted[::-1]
    assert all(len(page) == size for page in pages[:-1])


@pytest.mark.parametrize("size", [1, 100])
async def test_jobs_are_found_by_the_beginnings_of_their_ids(
    dependencies: AdminDependencies, size: int
) -> None:
    def call(token: str) -> Awaitable[Any]:
        names = ["0003", "0010-job", "0003-job", "none"]
        return queries.jobs(dependencies, pb.ListJobsRequest(page_size=size, page_token=token, job_ids=names))

    listed = [each.job_id for page in await leaf(call, "jobs") for each in page]

    assert listed == ["0010-job", "0003-job"]


async def test_a_beginning_is_ambiguous_among_the_jobs_in_the_states_only(
    dependencies: AdminDependencies, store: Store
) -> None:
    twin = replace(job("0003-twin"), state=JobState.COPYING)
    await store.records.add_job(twin, binding("0003-twin", task="twin"))

    with pytest.raises(Invalid, match="0003-job, 0003-twin"):
        await queries.jobs(dependencies, pb.ListJobsRequest(job_ids=["0003"]))
    failed = pb.ListJobsRequest(job_ids=["0003"], states=[pb.JOB_STATE_FAILED])
    assert [each.job_id for each in (await queries.jobs(dependencies, failed)).jobs] == ["0003-job"]


async def test_a_beginning_has_its_capitals_and_is_no_pattern(
    dependencies: AdminDependencies, store: Store
) -> None:
    assert await store.pages.list_job_ids(tuple(JobState), ["0003-J", "%", "000_", "0004-JOB"]) == ()
    assert await store.pages.list_job_ids(tuple(JobState), ["0003-j"]) == (JobId("0003-job"),)


@pytest.mark.parametrize("size", [1, 5, COUNT, 100])
async def test_the_audit_is_listed_latest_first(dependencies: AdminDependencies, size: int) -> None:
    def call(token: str) -> Awaitable[Any]:
        return queries.audit(dependencies, pb.ListAuditRequest(page_size=size, page_token=token))

    pages = await leaf(call, "entries")

    assert [each.call for page in pages for each in page] == [f"Call{n}" for n in reversed(range(COUNT))]
    assert all(len(page) == size for page in pages[:-1])


OF_TIME = [
    (1.0,),
    ("a", "b"),
    (1.0, 2.0),
    (1.0, "a", "b"),
    (float("nan"), "a"),
    (10**400, "a"),
    (2**63, "a"),
    (1.0, "\ud800"),
]
OF_NUMBER = [("1",), (1.5,), (-1,), (2**63,), (1, 2)]


@pytest.mark.parametrize("key", OF_TIME)
async def test_a_token_of_another_list_is_refused_by_copies_and_jobs(
    dependencies: AdminDependencies, key: tuple[float | str, ...]
) -> None:
    token = token_from_key(key)
    with pytest.raises(BadRequest):
        await queries.cached_images(dependencies, pb.ListCachedImagesRequest(page_token=token))
    with pytest.raises(BadRequest):
        await queries.jobs(dependencies, pb.ListJobsRequest(page_token=token))


@pytest.mark.parametrize("key", OF_NUMBER)
async def test_a_token_of_another_list_is_refused_by_the_audit(
    dependencies: AdminDependencies, key: tuple[float | str, ...]
) -> None:
    with pytest.raises(BadRequest):
        await queries.audit(dependencies, pb.ListAuditRequest(page_token=token_from_key(key)))
