"""Jobs whose content has a copy already: what their sources must show before they get it, in virtual time."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from controller.store.opening import Store
from controller.store.sql import SqlRecords
from reconcile.copying_ports import TargetState
from reconcile.errors import Denied, NotFound, Unavailable
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, CacheRequest, JobState
from reconcile.references import Digest, ImageReference, parse_image_reference
from reconcile.trust import ContentProof, ShareContent
from tests.controller.cacher.bench import SOURCE, Bench, Registries, digest, open_bench, private, request

ELSEWHERE = parse_image_reference("evil.example/any/thing:1")
SAME_HOST = parse_image_reference("registry.example.com/other/app:1")
ANOTHER_APP = AppGuid("app-2")


def asks(requester: str, source: ImageReference = SOURCE, *, organization: str = "org-1") -> CacheRequest:
    return replace(request(requester, source=source), organization_guid=organization)


async def staged(bench: Bench, wanted: CacheRequest) -> CacheJob:
    return await bench.ended(await bench.cacher.request(wanted))


def registries() -> Registries:
    """Three sources that name the same content."""
    return Registries(content={SOURCE: "one", SAME_HOST: "one", ELSEWHERE: "one"})


async def test_a_source_that_names_anothers_digest_and_does_not_serve_it_gets_nothing(store: Store) -> None:
    made = registries()
    made.hollow.add(ELSEWHERE)
    async with open_bench(store, made) as bench:
        first = await staged(bench, asks("task:1"))
        second = await staged(bench, asks("task:2", ELSEWHERE))

        assert first.cache_guid is not None
        assert (second.state, second.failure_code) == (JobState.FAILED, "BLOB_UNKNOWN")
        assert second.cache_guid is None
        shown = (await store.records.list_sources([digest("one")]))[digest("one")]
        assert shown == (SOURCE.repository,)


async def test_a_source_that_shows_everything_shares_the_copy_and_shows_it_once(store: Store) -> None:
    async with open_bench(store, registries()) as bench:
        first = await staged(bench, asks("task:1"))
        second = await staged(bench, asks("task:2", ELSEWHERE))
        third = await staged(bench, asks("task:3", replace(ELSEWHERE, path="any/other")))
        bench.registries.content[replace(ELSEWHERE, path="any/other")] = "one"
        fourth = await staged(bench, asks("task:4", replace(ELSEWHERE, path="any/other")))

        assert third.state is JobState.FAILED
        assert first.cache_guid == second.cache_guid == fourth.cache_guid
        assert bench.registries.shown == [ELSEWHERE], "what a domain has shown is not shown again there"
        assert len(bench.registries.copies) == 1


async def test_sources_in_one_registry_show_nothing(store: Store) -> None:
    async with open_bench(store, registries()) as bench:
        await staged(bench, asks("task:1"))
        await staged(bench, asks("task:2", SAME_HOST, organization="org-2"))

        assert bench.registries.shown == []
        assert bench.registries.resolved == [SOURCE, SAME_HOST]


@pytest.mark.parametrize(
    ("share", "source", "organization", "must_show"),
    [
        (ShareContent.REGISTRY, SAME_HOST, "org-2", False),
        (ShareContent.REGISTRY, ELSEWHERE, "org-1", True),
        (ShareContent.ORGANIZATION, ELSEWHERE, "org-1", False),
        (ShareContent.ORGANIZATION, SAME_HOST, "org-2", True),
        (ShareContent.ORGANIZATION, SAME_HOST, "", True),
        (ShareContent.ALL, ELSEWHERE, "org-2", False),
    ],
)
async def test_what_must_be_shown_follows_the_config(
    store: Store,
    share: ShareContent,
    source: ImageReference,
    organization: str,
    must_show: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    async with open_bench(store, registries(), share_content=share) as bench:
        first = await staged(bench, asks("task:1"))
        second = await staged(bench, asks("task:2", source, organization=organization))

        assert first.cache_guid == second.cache_guid
        assert bench.registries.shown == ([source] if must_show else [])


async def test_jobs_of_two_organizations_are_joined_only_where_these_share_content(store: Store) -> None:
    for share, joined in ((ShareContent.REGISTRY, True), (ShareContent.ORGANIZATION, False)):
        waiting = registries()
        waiting.may_copy.clear()
        async with open_bench(store, waiting, share_content=share) as bench:
            first = await bench.cacher.request(asks(f"task:{share}-1"))
            second = await bench.cacher.request(asks(f"task:{share}-2", organization="org-2"))
            waiting.may_copy.set()
            await bench.ended(first)
            await bench.ended(second)

            assert (first.job_id == second.job_id) is joined


async def test_an_index_of_the_same_registry_that_names_anothers_private_image_is_not_believed(
    store: Store,
) -> None:
    """The tenant's own index is readable; the manifest that it names is asked for with the tenant's login."""
    made = registries()
    made.passwords[SOURCE] = "secret"
    made.indexes[SAME_HOST] = digest("index of mallory")
    async with open_bench(store, made) as bench:
        await staged(bench, private("task:1", "secret"))
        job = await staged(bench, asks("task:2", SAME_HOST))

        assert (job.state, job.failure_code) == (JobState.FAILED, "MANIFEST_UNKNOWN")
        assert made.resolved[-1] == SAME_HOST.at(digest("one"))

        made.content[SAME_HOST.at(digest("one"))] = "one"
        again = await staged(bench, asks("task:3", SAME_HOST))

        assert again.state is JobState.CACHED


async def test_a_login_is_asked_for_once_and_then_remembered(store: Store) -> None:
    """The image is pinned, so that nothing needs to be asked of its source."""
    made, pinned = registries(), SOURCE.at(digest("one"))
    made.content[pinned] = "one"
    async with open_bench(store, made) as bench:
        await staged(bench, private("task:1", "alice"))
        made.resolved.clear()
        bobs = replace(private("task:2", "bob"), source=pinned, app_guid=ANOTHER_APP)
        first = await staged(bench, bobs)
        asked = list(made.resolved)
        second = await staged(bench, replace(bobs, requester="task:3", app_guid=AppGuid("app-3")))

        assert first.state is second.state is JobState.CACHED
        assert asked == [pinned]
        assert made.resolved == [pinned]
        assert made.shown == []


class FailsOnce(SqlRecords):
    """Does not save the end of the second job at the first attempt."""

    def __init__(self, records: SqlRecords) -> None:
        super().__init__(records._database)
        self.calls = 0

    async def finish_job(
        self,
        job: CacheJob,
        image: CachedImage,
        blobs: Iterable[Digest],
        proof: ContentProof | None = None,
    ) -> None:
        self.calls += 1
        if self.calls == 2:
            raise Unavailable("store", "locked", "the database is locked")
        await super().finish_job(job, image, blobs, proof)


@pytest.mark.looptime
async def test_what_was_shown_is_not_shown_again_when_its_job_is_repeated(store: Store) -> None:
    async with open_bench(replace(store, records=FailsOnce(store.records)), registries()) as bench:
        first = await staged(bench, asks("task:1"))
        second = await staged(bench, asks("task:2", ELSEWHERE))

        assert (second.attempts, second.cache_guid) == (1, first.cache_guid), (
            "a store that is away costs none"
        )
        assert bench.registries.shown == [ELSEWHERE]


async def test_nobody_waits_while_a_slow_source_shows_what_has_a_copy(store: Store) -> None:
    made = registries()
    async with open_bench(store, made) as bench:
        first = await staged(bench, asks("task:1"))
        made.may_show.clear()
        slow = await bench.cacher.request(asks("task:2", ELSEWHERE))
        await made.showing.wait()

        meanwhile = await staged(bench, asks("task:3", SAME_HOST))

        assert meanwhile.cache_guid == first.cache_guid
        assert await bench.state(slow) is JobState.COPYING
        made.may_show.set()
        assert (await bench.ended(slow)).state is JobState.CACHED


async def test_a_copy_that_is_made_meanwhile_by_another_domain_is_neither_waited_for_nor_used(
    store: Store,
) -> None:
    """The source must show all that it copies, since somebody else writes to the same repository."""
    made = registries()
    made.hollow.add(ELSEWHERE)
    made.may_copy.clear()
    made.resolving[ELSEWHERE] = asyncio.Event()
    async with open_bench(store, made) as bench:
        first = await bench.cacher.request(asks("task:1"))
        await made.copying.wait()
        made.copying.clear()
        second = await bench.cacher.request(asks("task:2", ELSEWHERE))
        await made.resolving[ELSEWHERE].wait()
        await made.copying.wait()
        assert made.states == [TargetState.EMPTY, TargetState.UNKNOWN]
        made.may_copy.set()

        assert (await bench.ended(first)).state is JobState.CACHED
        assert (await bench.ended(second)).state is JobState.FAILED


async def test_a_request_does_not_join_a_job_that_only_moves_a_copy(store: Store) -> None:
    """What is moved was given to an LRP before, and its source is not asked."""
    made = registries()
    pinned = SOURCE.at(digest("one"))
    made.may_copy.clear()
    async with open_bench(store, made) as bench:
        move = replace(request("lrp:p"), reason=Reason.COPY_IN_FORMER_REGISTRY, content=digest("one"))
        made.content[pinned] = "one"
        moving = await bench.cacher.request(move)
        joined = await bench.cacher.request(replace(request("task:2", source=pinned), app_guid=ANOTHER_APP))
        same = await bench.cacher.request(replace(move, requester="lrp:q"))
        made.may_copy.set()
        await bench.ended(moving)
        await bench.ended(joined)

        assert joined.job_id != moving.job_id
        assert same.job_id == moving.job_id


async def test_signatures_of_a_further_source_are_added_once(store: Store) -> None:
    async with open_bench(store, registries()) as bench:
        first = await staged(bench, asks("task:1"))
        await staged(bench, asks("task:2", SAME_HOST))
        await staged(bench, asks("task:3", ELSEWHERE))
        for number, source in enumerate((SOURCE, SAME_HOST, ELSEWHERE)):
            await staged(bench, asks(f"task:again-{number}", source))

        assert bench.registries.signed == [SAME_HOST, ELSEWHERE]
        assert first.cache_guid is not None
        shown = (await store.records.list_sources([digest("one")]))[digest("one")]
        assert shown == (SOURCE.repository, SAME_HOST.repository, ELSEWHERE.repository)


@pytest.mark.parametrize("failure", [NotFound, Denied])
async def test_signatures_that_are_refused_keep_nobody_from_a_copy(
    store: Store, failure: type[NotFound | Denied]
) -> None:
    made = registries()
    made.signature_failures = [failure("registry", "DENIED", "no")]
    async with open_bench(store, made) as bench:
        await staged(bench, asks("task:1"))

        assert (await staged(bench, asks("task:2", SAME_HOST))).state is JobState.CACHED
        assert made.signature_failures == [], "they were asked for"


@pytest.mark.looptime
async def test_signatures_are_asked_for_again_when_the_source_did_not_answer(store: Store) -> None:
    made = registries()
    made.signature_failures = [Unavailable("registry", "timeout", "no answer")]
    async with open_bench(store, made) as bench:
        await staged(bench, asks("task:1"))
        job = await staged(bench, asks("task:2", SAME_HOST))

        assert job.state is JobState.CACHED
        assert made.signed == [SAME_HOST, SAME_HOST]
