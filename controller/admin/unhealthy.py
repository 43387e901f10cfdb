"""Tells operators which registries are unhealthy, and what waits for them."""

from collections import Counter
from collections.abc import Sequence
from types import MappingProxyType
from typing import Protocol

from controller.admin.reason_names import named
from controller.health_loop import UnhealthyRegistry
from protos.admin import admin_pb2 as pb
from reconcile.health import RegistryUse
from reconcile.hosts import canonical_host
from reconcile.reasons import Reason
from reconcile.records import CacheJob, JobState, LrpRecord
from reconcile.references import Rootfs, source_from_rootfs

USE_NAMES = MappingProxyType({use: named("REGISTRY_USE", use) for use in RegistryUse})

_OPEN = (JobState.QUEUED, JobState.COPYING)
_WAIT_FOR_COPY = frozenset({Reason.WAITING_FOR_COPY, Reason.COPY_FAILED, Reason.RETRYING_COPY})
_WAIT_FOR_PULLS = frozenset({Reason.CACHE_REGISTRY_UNHEALTHY, Reason.CELLS_NOT_PROVEN})


class AdminHealth(Protocol):
    """What is known of the registries."""

    @property
    def unhealthy(self) -> tuple[UnhealthyRegistry, ...]:
        """The registries that are unhealthy, the private one first."""


class WaitingRecords(Protocol):
    """The jobs and LRPs that may wait for a registry."""

    async def list_jobs(self, states: Sequence[JobState]) -> tuple[CacheJob, ...]:
        """List the jobs in some states."""

    async def list_lrps(self) -> tuple[LrpRecord, ...]:
        """List what is known of LRPs."""


async def unhealthy_messages(health: AdminHealth, records: WaitingRecords) -> list[pb.UnhealthyRegistry]:
    """Write the registries that are unhealthy; reads jobs and LRPs only if there are any."""
    unhealthy = health.unhealthy
    if not unhealthy:
        return []
    jobs = Counter(canonical_host(job.source.domain) for job in await records.list_jobs(_OPEN))
    lrps = await records.list_lrps()
    waiting = Counter(
        source for lrp in lrps if lrp.reason in _WAIT_FOR_COPY and (source := _source_of(lrp)) is not None
    )
    kept = sum(lrp.reason in _WAIT_FOR_PULLS for lrp in lrps)
    return [
        pb.UnhealthyRegistry(
            registry=each.registry,
            private=each.is_private,
            use=USE_NAMES[each.use],
            since=each.since,
            fault=each.failing.fault.words,
            error=each.failing.said,
            failures=each.failing.count,
            waiting_jobs=jobs.total() if each.is_private else jobs[each.registry],
            waiting_lrps=_waiting_lrps(each, waiting, kept),
        )
        for each in unhealthy
    ]


def _waiting_lrps(unhealthy: UnhealthyRegistry, waiting: Counter[str], kept: int) -> int:
    if not unhealthy.is_private:
        return waiting[unhealthy.registry]
    return waiting.total() if unhealthy.use is RegistryUse.PUSH else waiting.total() + kept


def _source_of(lrp: LrpRecord) -> str | None:
    source = source_from_rootfs(Rootfs(lrp.rootfs))
    return None if source is None else canonical_host(source.domain)
