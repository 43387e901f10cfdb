# ruff: noqa: N802 - names carry the numbers of known bugs
"""Jobs that are put off: which failures are waited for and how long, and what waits for a budget."""

import asyncio
from dataclasses import replace

import pytest

from controller.store.opening import Store
from reconcile.copying_ports import TargetState
from reconcile.errors import DockerCacheError, Invalid, RateLimited, Unavailable
from reconcile.failed_bytes import DAY
from reconcile.lrps import AppGuid
from reconcile.records import MAX_ATTEMPTS, CacheJob, JobState
from tests.controller.cacher.bench import OTHER, SOURCE, Bench, Registries, open_bench, request
from tests.written_lines import written_lines


@pytest.mark.looptime
async def test_an_unreachable_registry_is_tried_again(bench: Bench) -> None:
    bench.registries.failures += [Unavailable("registry", "timeout", "x")] * 3
    ended = await bench.ended(await bench.cacher.request(request()))

    assert ended.state is JobState.CACHED
    assert ended.attempts == 4
    assert ended.failure == ""


@pytest.mark.looptime
@pytest.mark.parametrize("failure", [Unavailable, RateLimited])
async def test_only_the_first_attempt_that_is_put_off_is_told_to_operators(
    bench: Bench, capsys: pytest.CaptureFixture[str], failure: type[Unavailable]
) -> None:
    """A registry that is away for an hour would be a line a minute for each job; `jobs` shows all of them."""
    bench.registries.failures += [failure("registry", "x", "y")] * 4
    await bench.ended(await bench.cacher.request(request()))

    lines = [each for each in written_lines(capsys) if each["message"].endswith(".postponed-job")]
    assert [each["level"] for each in lines] == ["info", "debug", "debug", "debug"]


@pytest.mark.looptime
async def test_a_registry_that_stays_unreachable_is_given_up_with_the_last_reason(bench: Bench) -> None:
    bench.registries.failures += [Unavailable("registry", "timeout", "x")] * 100
    ended = await bench.ended(await bench.cacher.request(request()))

    assert ended.state is JobState.FAILED
    assert ended.attempts == MAX_ATTEMPTS
    assert ended.failure == "gave-up: after 12 attempts, last source-unreachable: timeout: x"


@pytest.mark.looptime
async def test_a_copy_that_was_limited_halfway_looks_for_what_it_has_copied(bench: Bench) -> None:
    """Otherwise each attempt would read the same blobs from the source that limits it."""
    bench.registries.copy_failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=900.0)]
    await bench.ended(await bench.cacher.request(request()))

    assert bench.registries.states == [TargetState.EMPTY, TargetState.OWN]


@pytest.mark.looptime
async def test_a_rate_limit_parks_the_job_for_as_long_as_it_says_and_uses_up_no_attempt(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    bench.registries.failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=900.0)]
    begun = loop.time()
    ended = await bench.ended(await bench.cacher.request(request()), look_every=1.0)

    assert ended.state is JobState.CACHED
    assert ended.attempts == 1
    assert loop.time() - begun == pytest.approx(900.0, abs=2.0)


@pytest.mark.looptime
async def test_E7_a_rate_limited_job_waits_out_its_time_across_a_restart(store: Store) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    registries = Registries()
    registries.failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=900.0)]
    async with open_bench(store, registries) as first:
        job = await first.cacher.request(request())
        parked: CacheJob | None = job
        while parked is not None and parked.not_before is None:
            await asyncio.sleep(1.0)
            parked = await store.records.find_job(job.job_id)
    async with open_bench(store, registries) as second:
        ended = await second.ended(job, look_every=1.0)

    assert ended.state is JobState.CACHED
    assert loop.time() - begun == pytest.approx(900.0, abs=5.0)
    assert len(registries.copies) == 1


@pytest.mark.looptime
async def test_a_job_that_was_put_off_while_the_clock_was_ten_years_ahead_is_copied_with_all_that_joins_it(
    store: Store,
) -> None:
    ahead = 1e9 + 10 * 365 * 86_400.0
    async with open_bench(store, Registries(), loops=0) as waiting:
        job = await waiting.cacher.request(request())
        await store.records.save_job(
            replace(job, updated_at=ahead, not_before=ahead + 300.0, failure="timeout: x", attempts=1)
        )
    async with open_bench(store, Registries()) as bench:
        joined = await bench.cacher.request(request("task:2"))
        ended = await bench.ended(job)

    assert joined.job_id == job.job_id
    assert (ended.state, ended.attempts) == (JobState.CACHED, 1 + 1)


def moved(error: DockerCacheError, size: int) -> DockerCacheError:
    error.moved = size
    return error


@pytest.mark.looptime
async def test_an_app_whose_failed_copies_transfer_too_many_bytes_waits_and_others_go_on(
    bench: Bench,
) -> None:
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    for n in range(2):
        bench.registries.copy_failures.append(moved(Invalid("registry", "digest-mismatch", "x"), 500))
        failed = await bench.ended(await bench.cacher.request(request(f"task:{n}")))
        assert failed.state is JobState.FAILED

    waiting = await bench.cacher.request(request("task:9"))
    other = replace(request("task:other"), app_guid=AppGuid("other"), source=OTHER)
    bench.registries.content[OTHER] = "two"
    assert (await bench.ended(await bench.cacher.request(other))).state is JobState.CACHED
    held = await bench.store.records.find_job(waiting.job_id)
    assert held is not None
    assert (held.state, held.attempts) == (JobState.QUEUED, 0)
    assert (
        held.failure
        == "failed-bytes: copies of its organization transferred 1,000 bytes in failed attempts within a day"
    )

    assert (await bench.ended(waiting, look_every=60.0)).state is JobState.CACHED
    assert DAY - 3600 <= loop.time() - begun <= DAY + 60
    assert bench.failures("again", "failed-bytes") == 1
    assert bench.failures("failed", "bad-content") == 2


@pytest.mark.looptime
async def test_what_failed_attempts_transferred_does_not_count_once_the_copy_succeeds(bench: Bench) -> None:
    for n in range(5):
        bench.registries.copy_failures.append(moved(Unavailable("registry", "timeout", "x"), 999))
        bench.registries.content[SOURCE] = str(n)
        ended = await bench.ended(await bench.cacher.request(request(f"task:{n}")))
        assert (ended.state, ended.attempts) == (JobState.CACHED, 2)


@pytest.mark.looptime
async def test_a_copy_that_an_operator_orders_waits_for_no_budget(bench: Bench) -> None:
    bench.registries.copy_failures.append(moved(Invalid("registry", "digest-mismatch", "x"), 5000))
    await bench.ended(await bench.cacher.request(request("task:1")))

    ordered = await bench.cacher.request(replace(request("task:2"), is_ordered=True))

    assert (await bench.ended(ordered)).state is JobState.CACHED


class TestRepeats:
    """An LRP that asks again and again, without anything new, waits ever longer."""

    async def test_it_is_said_why_a_job_waits_and_a_staging_has_it_started(self, bench: Bench) -> None:
        await bench.ended(await bench.cacher.request(request("lrp:p")))
        repeated = await bench.cacher.request(request("lrp:p"))

        joined = await bench.cacher.request(request("task:2", at=2))

        assert repeated.failure.startswith("requested-again: ")
        assert joined.job_id == repeated.job_id
        assert (await bench.ended(joined)).state is JobState.CACHED

    @pytest.mark.looptime
    async def test_a_registry_that_limits_the_rate_and_says_at_once_is_asked_ever_more_seldom(
        self, bench: Bench
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=0.0)] * 8
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()))

        assert ended.state is JobState.CACHED
        assert loop.time() - begun > 200.0

    @pytest.mark.looptime
    async def test_a_registry_that_is_unavailable_and_names_no_time_gets_half_an_hour(
        self, bench: Bench
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.copy_failures += [
            Unavailable("registry", "http-503", "x", retry_after=seconds) for seconds in (None, 0.0) * 20
        ]
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()), look_every=10.0)

        assert (ended.state, ended.attempts) == (JobState.FAILED, MAX_ATTEMPTS)
        assert loop.time() - begun > 600.0

    @pytest.mark.looptime
    @pytest.mark.parametrize("code", ["read-only", "disk-full", "quota-exceeded", "storage-failed"])
    async def test_a_registry_that_stores_nothing_for_hours_is_waited_for_and_uses_up_no_attempt(
        self, bench: Bench, code: str
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.copy_failures += [Unavailable("registry", code, "x")] * 40
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()), look_every=100.0)

        assert (ended.state, ended.attempts) == (JobState.CACHED, 1)
        assert loop.time() - begun > 3600.0

    @pytest.mark.looptime
    @pytest.mark.parametrize(
        "refusal",
        [
            RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=43_000.0),
            RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=86_000.0),
            Unavailable("registry", "read-only", "x", retry_after=60_000.0),
        ],
    )
    async def test_a_job_does_not_wait_for_ever_for_a_registry_that_never_serves(
        self, bench: Bench, refusal: Unavailable
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.copy_failures += [refusal] * 100
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()), look_every=5000.0, within=1_000_000)

        assert ended.state is JobState.FAILED
        assert ended.failure.startswith("gave-up: not within the 86400 s that a job may take")
        assert refusal.code in ended.failure
        assert loop.time() - begun <= 86_400.0 + 5000.0  # looked at so seldom
