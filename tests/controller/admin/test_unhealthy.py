"""What operators are told of unhealthy registries, and of what waits for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from controller.admin.rows import row_from_message
from controller.admin.unhealthy import unhealthy_messages
from controller.admin.unhealthy_text import describe_unhealthy
from controller.health_loop import UnhealthyRegistry
from reconcile.health import Failing, Fault, RegistryUse
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import CacheJob, JobState, LrpRecord
from reconcile.references import parse_image_reference
from tests.controller.store.samples import job

CACHE, SOURCE = "cache.example:8080", "source.example"
FULL = Failing(1.0, 2.0, Fault.DISK_FULL, "no space left on device", count=3)
GONE = Failing(1.0, 2.0, Fault.NO_ANSWER, "refused", count=7)
PUSHES = "nothing can be copied to it; 3 cache jobs and 3 LRPs wait for it"
PULLS = (
    "no app is migrated to it, and new instances of migrated apps may not start; "
    "3 cache jobs and 4 LRPs wait for it"
)


@dataclass
class Records:
    """Jobs and LRPs, as the store has them."""

    jobs: tuple[CacheJob, ...] = ()
    lrps: tuple[LrpRecord, ...] = ()
    reads: list[str] = field(default_factory=list)

    async def list_jobs(self, states: Sequence[JobState]) -> tuple[CacheJob, ...]:
        self.reads.append("jobs")
        return tuple(job for job in self.jobs if job.state in states)

    async def list_lrps(self) -> tuple[LrpRecord, ...]:
        self.reads.append("lrps")
        return self.lrps


@dataclass
class Health:
    """What is known of the registries."""

    unhealthy: tuple[UnhealthyRegistry, ...] = ()


def lrp(name: str, reason: Reason, source: str = SOURCE) -> LrpRecord:
    return LrpRecord(
        ProcessGuid(name),
        AppGuid("app"),
        f"docker://{source}/a/b#1",
        cache_guid=None,
        rounds=0,
        reason=reason,
        detail="",
        updated_at=0.0,
    )


@pytest.fixture
def records() -> Records:
    open_jobs = [
        replace(job(f"j{n}"), source=parse_image_reference(f"{source}/a/b:{n}"), state=state)
        for n, (source, state) in enumerate(
            [
                (SOURCE, JobState.QUEUED),
                ("Source.Example", JobState.COPYING),
                ("other.example", JobState.QUEUED),
            ]
        )
    ]
    ended = replace(open_jobs[0], job_id=job("j9").job_id, state=JobState.FAILED)
    lrps = (
        lrp("a", Reason.WAITING_FOR_COPY),
        lrp("b", Reason.COPY_FAILED),
        lrp("c", Reason.WAITING_FOR_COPY, "other.example"),
        lrp("d", Reason.CACHE_REGISTRY_UNHEALTHY),
        lrp("e", Reason.MIGRATED),
        replace(lrp("f", Reason.NOT_DOCKER), rootfs="preloaded:cflinuxfs4"),
    )
    return Records((*open_jobs, ended), lrps)


async def test_nothing_is_read_while_all_are_well(records: Records) -> None:
    assert await unhealthy_messages(Health(), records) == []
    assert records.reads == []


@pytest.mark.parametrize(
    ("registry", "use", "jobs", "lrps"),
    [
        (CACHE, RegistryUse.PUSH, 3, 3),
        (CACHE, RegistryUse.PULL, 3, 4),
        (SOURCE, RegistryUse.PULL, 2, 2),
        ("unused.example", RegistryUse.PULL, 0, 0),
    ],
)
async def test_what_waits_for_a_registry_is_counted(
    records: Records, registry: str, use: RegistryUse, jobs: int, lrps: int
) -> None:
    unhealthy = UnhealthyRegistry(registry, use, is_private=registry == CACHE, since=5.0, failing=GONE)

    (message,) = await unhealthy_messages(Health((unhealthy,)), records)

    assert row_from_message(message) == {
        "registry": registry,
        "private": registry == CACHE,
        "use": use,
        "since": 5.0,
        "fault": "it does not answer",
        "error": "refused",
        "failures": 7,
        "waiting_jobs": jobs,
        "waiting_lrps": lrps,
    }


async def test_it_is_said_in_words(records: Records) -> None:
    unhealthy = (
        UnhealthyRegistry(CACHE, RegistryUse.PUSH, is_private=True, since=5.0, failing=FULL),
        UnhealthyRegistry(CACHE, RegistryUse.PULL, is_private=True, since=5.0, failing=GONE),
        UnhealthyRegistry("unused.example", RegistryUse.PULL, is_private=False, since=5.0, failing=GONE),
    )
    rows = map(row_from_message, await unhealthy_messages(Health(unhealthy), records))

    assert [describe_unhealthy(row, "for 5 min") for row in rows] == [
        ("private registry", f"UNHEALTHY for pushes for 5 min: its disk is full: {FULL.said}; {PUSHES}"),
        ("private registry", f"UNHEALTHY for pulls for 5 min: it does not answer: refused; {PULLS}"),
        (
            "source unused.example",
            "UNHEALTHY for 5 min: it does not answer: refused; nothing waits for it",
        ),
    ]


@pytest.mark.parametrize(
    ("jobs", "lrps", "said"),
    [
        (1, 0, "1 cache job waits for it"),
        (0, 2, "2 LRPs wait for it"),
        (1, 1, "1 cache job and 1 LRP wait for it"),
    ],
)
def test_what_waits_is_counted(jobs: int, lrps: int, said: str) -> None:
    row = {
        "private": False,
        "registry": "a",
        "use": "pull",
        "fault": "it does not answer",
        "error": "refused",
    }

    _, text = describe_unhealthy({**row, "waiting_jobs": jobs, "waiting_lrps": lrps}, "for 5 min")

    assert text.endswith(f"; {said}")
