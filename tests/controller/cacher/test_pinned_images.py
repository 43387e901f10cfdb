"""Images that are pinned by a digest: their copies are used without asking their sources."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from controller.store.opening import Store
from reconcile.errors import NotFound
from reconcile.lrps import AppGuid
from reconcile.records import CacheJob, CacheRequest, JobState
from reconcile.references import parse_image_reference
from tests.controller.cacher.bench import APP, SOURCE, Bench, Registries, digest, open_bench, private, request

PINNED = SOURCE.at(digest("one"))
ANOTHER_APP = AppGuid("app-2")


def pinned(requester: str = "task:2", *, app: AppGuid = APP) -> CacheRequest:
    return replace(request(requester, at=2, source=PINNED), app_guid=app)


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    registries = Registries()
    registries.content[PINNED] = "one"
    async with open_bench(store, registries) as opened:
        yield opened


async def staged(bench: Bench, wanted: CacheRequest) -> CacheJob:
    return await bench.ended(await bench.cacher.request(wanted))


@pytest.mark.parametrize("app", [APP, ANOTHER_APP])
async def test_a_pinned_image_that_has_a_copy_is_cached_although_its_source_has_dropped_it(
    bench: Bench, app: AppGuid
) -> None:
    first = await staged(bench, pinned("task:1"))
    bench.registries.content.clear()

    again = await staged(bench, pinned("task:2", app=app))

    assert (again.state, again.cache_guid) == (JobState.CACHED, first.cache_guid)
    assert len(bench.registries.copies) == 1


async def test_a_pinned_image_is_cached_by_the_copy_that_was_made_of_its_tag(bench: Bench) -> None:
    first = await staged(bench, request("task:1"))
    bench.registries.content.clear()

    again = await staged(bench, pinned())

    assert (again.state, again.cache_guid) == (JobState.CACHED, first.cache_guid)


async def test_a_pinned_image_that_an_app_has_read_with_a_login_is_cached_for_that_app_alone(
    bench: Bench,
) -> None:
    """To know a digest is no proof that somebody may read the content."""
    bench.registries.passwords[PINNED] = "secret"
    with_login = replace(private("task:1", "secret"), source=PINNED)
    first = await staged(bench, with_login)
    bench.registries.content.clear()

    own = await staged(bench, replace(with_login, requester="task:2", staged_at=2))
    anothers = await staged(bench, pinned("task:3", app=ANOTHER_APP))

    assert (own.state, own.cache_guid) == (JobState.CACHED, first.cache_guid)
    assert anothers.state is JobState.FAILED


async def test_a_pinned_image_of_another_registry_is_asked_for_there(bench: Bench) -> None:
    """A registry that a tenant runs may name any digest."""
    await staged(bench, pinned("task:1"))
    elsewhere = parse_image_reference(f"evil.example.com/team/app@{digest('one')}")

    job = await staged(bench, replace(pinned(app=ANOTHER_APP), source=elsewhere))

    assert job.state is JobState.FAILED


async def test_a_pinned_image_whose_copy_vanished_is_copied_again(bench: Bench) -> None:
    first = await staged(bench, pinned("task:1"))
    bench.registries.held.clear()

    again = await staged(bench, pinned())

    assert (again.state, again.cache_guid) == (JobState.CACHED, first.cache_guid)
    assert len(bench.registries.copies) == 2


async def test_a_pinned_image_whose_copy_needs_verification_is_asked_for(bench: Bench) -> None:
    first = await staged(bench, pinned("task:1"))
    assert first.cache_guid is not None
    await bench.store.records.mark_for_verification(first.cache_guid, 5.0)
    bench.registries.failures = [NotFound("registry", "MANIFEST_UNKNOWN", "gone")]

    assert (await staged(bench, pinned())).state is JobState.FAILED


async def test_an_evicted_copy_is_not_used(bench: Bench) -> None:
    first = await staged(bench, pinned("task:1"))
    assert first.cache_guid is not None
    await bench.store.records.drop_image(first.cache_guid)
    bench.registries.content.clear()

    assert (await staged(bench, pinned())).state is JobState.FAILED
