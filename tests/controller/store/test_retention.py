"""What the store forgets because nothing refers to it, and what it keeps."""

from dataclasses import replace

import pytest

from controller.store import retention
from controller.store.opening import Store
from reconcile.copying_ports import TargetState
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    CacheJob,
    JobId,
    JobState,
    LrpRecord,
    requester_of_lrp,
    requester_of_repair,
)
from reconcile.references import CacheGuid, parse_image_reference
from reconcile.trust import Reader, TrustDomain
from tests.controller.store.samples import APP, binding, digest, image, job

LRP = ProcessGuid("process-1")


@pytest.fixture(autouse=True)
def few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the databases hundreds of stagings in each test."""
    monkeypatch.setattr(retention, "MOST_OF_APP", 20)
    monkeypatch.setattr(retention, "_SLACK", 4)


def job_of(n: int, *, state: JobState = JobState.FAILED, at: float = 100.0) -> CacheJob:
    source = parse_image_reference(f"registry.example/team/web:{n}")
    return replace(job(f"job-{n}", state=state), source=source, updated_at=at)


def binding_of(n: int, *, app: str = APP) -> Binding:
    found = binding(f"job-{n}", task=f"task-{n}", staged_at=n, app=app)
    return replace(found, source=job_of(n).source)


async def stage(store: Store, n: int, *, state: JobState = JobState.FAILED, at: float = 100.0) -> None:
    """Let the app stage an image of its own, and its copy end."""
    await store.records.add_job(job_of(n, state=JobState.QUEUED, at=at), binding_of(n))
    if state is not JobState.QUEUED:
        await store.records.save_job(job_of(n, state=state, at=at))


async def run_an_lrp(store: Store) -> None:
    await store.records.save_lrp(
        LrpRecord(LRP, APP, "docker://registry.example/team/web#0", None, 0, Reason.PAUSED, 1.0)
    )


async def kept(store: Store, count: int) -> list[int]:
    """Number the stagings that are still known."""
    found = [await store.records.find_binding(f"task:task-{n}") for n in range(count)]
    return [n for n, each in enumerate(found) if each is not None]


async def test_an_app_that_stages_ever_new_tags_leaves_a_bounded_number_of_records(store: Store) -> None:
    count = 3 * retention.MOST_OF_APP
    for n in range(count):
        await stage(store, n)

    left, jobs = await kept(store, count), await store.records.count_jobs()

    assert len(left) <= retention.MOST_OF_APP + retention._SLACK
    assert left == list(range(count - len(left), count))
    assert jobs == {"failed": len(left)}


async def test_what_is_being_copied_and_what_an_lrp_has_are_no_surplus(store: Store) -> None:
    await stage(store, 0, state=JobState.QUEUED)
    await stage(store, 1)
    own = replace(binding_of(1), requester=requester_of_lrp(LRP))
    await store.records.put_binding(own)
    await run_an_lrp(store)
    for n in range(2, 2 * retention.MOST_OF_APP):
        await stage(store, n)

    assert await store.records.find_binding(own.requester) == own
    assert (await kept(store, 2))[0] == 0
    assert await store.records.find_job(JobId("job-0")) is not None
    assert await store.records.find_job(JobId("job-1")) is not None


async def test_one_apps_surplus_leaves_other_apps_alone(store: Store) -> None:
    await store.records.add_job(job_of(0, state=JobState.QUEUED), binding_of(0, app="app-2"))
    await store.records.save_job(job_of(0))
    for n in range(1, 2 * retention.MOST_OF_APP):
        await stage(store, n)

    assert (await kept(store, 1)) == [0]


async def test_repairs_are_no_apps_surplus(store: Store) -> None:
    """A registry that has lost everything has a repair for each copy."""
    count = 2 * retention.MOST_OF_APP
    for n in range(count):
        repair = replace(
            binding_of(n), app_guid=AppGuid(""), requester=requester_of_repair(CacheGuid(f"guid-{n}"))
        )
        await store.records.add_job(job_of(n, state=JobState.QUEUED), repair)
        await store.records.save_job(job_of(n))

    assert (await store.records.count_jobs()) == {"failed": count}


async def test_what_no_app_with_an_lrp_has_is_forgotten_after_a_time(store: Store) -> None:
    await stage(store, 0, at=100.0)
    await stage(store, 1, at=300.0)
    await stage(store, 2, at=100.0, state=JobState.QUEUED)

    assert await store.records.forget_unused(200.0) == 1
    assert await kept(store, 3) == [1, 2]
    assert await store.records.find_job(JobId("job-0")) is None


async def test_what_an_index_leads_to_is_forgotten_when_there_is_no_copy_of_it(store: Store) -> None:
    """A tenant can have any number of indexes read whose images are then refused."""
    proofs = store.content_proofs
    proofs.use_platforms("linux/amd64")
    guid = await store.records.reserve_guid(digest(1))
    await store.records.keep_image(image(guid, platform=digest(1)), ())
    await store.records.reserve_guid(digest(2))
    for number in (1, 2, 3):
        await proofs.save_index(digest(number + 100), digest(number))

    await store.records.forget_unused(0.0)

    found = [await proofs.find_in_index(digest(number + 100)) for number in (1, 2, 3)]
    assert found == [digest(1), None, None]


async def test_what_may_lie_in_the_registry_under_a_guid_is_never_forgotten(store: Store) -> None:
    """Neither after a copy that failed, nor after one that was deleted, which a stopped app may still name."""
    proofs, reader = store.content_proofs, Reader(TrustDomain("registry registry.example"))
    failed, _ = await proofs.begin_copy(digest(1), reader)
    deleted, _ = await proofs.begin_copy(digest(2), reader)
    await store.records.keep_image(image(deleted, platform=digest(2)), ())
    await store.records.drop_image(deleted)

    await store.records.forget_unused(1e12)

    assert await proofs.begin_copy(digest(1), reader) == (failed, TargetState.OWN)
    assert (await proofs.begin_copy(digest(2), reader))[0] == deleted


async def test_nothing_is_forgotten_of_an_app_that_has_an_lrp(store: Store) -> None:
    """It may be desired from that source again."""
    await stage(store, 0, at=100.0)
    await run_an_lrp(store)

    assert await store.records.forget_unused(1e12) == 0
    assert await kept(store, 1) == [0]

    await store.records.forget_lrps([LRP])

    assert await store.records.forget_unused(1e12) == 1
