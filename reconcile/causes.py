"""Says why instances of an LRP and of its bridge do not run, as the BBS knows it.

The row of an instance keeps the reason of its last crash when it is started again, also while it runs well.
So only instances that do not run have a cause.
"""

from collections import Counter
from collections.abc import Iterable

from reconcile.foreign_text import cut
from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp
from reconcile.observed import Observed
from reconcile.reasons import AppState, Reason
from reconcile.references import CacheRepositories, Rootfs, source_from_rootfs
from reconcile.start_failures import Blame, StartFailure, placement_failure, start_failure

_MAX_CAUSES = 2
"""Different causes of one LRP's instances that are named."""


def failure_of(instance: ActualLrp) -> StartFailure | None:
    """Read why an instance does not run; None when it does, or when the BBS does not know."""
    if instance.state is ActualLrpState.RUNNING:
        return None
    placement = placement_failure(instance.placement_error)
    if instance.state is ActualLrpState.UNCLAIMED and placement is not None:
        return placement
    return start_failure(instance.crash_reason) if instance.crash_count else None


def cause_of_failure(failure: StartFailure, rootfs: Rootfs, cache: CacheRepositories) -> str:
    """Describe why an LRP that is desired from some rootfs does not run, in one line for people."""
    source = source_from_rootfs(rootfs)
    pulled = "copy" if source is not None and cache.owns(source) else "source"
    return cut(f"{_what_failed(failure, pulled)}: {failure.detail}")


def _what_failed(failure: StartFailure, pulled: str) -> str:
    match failure.blame:
        case Blame.REGISTRY | Blame.COPY | Blame.IMAGE:
            return f"cells cannot pull from its {pulled}"
        case Blame.PROCESS:
            return f"cannot be started from its {pulled}"
        case Blame.APP:
            return f"crashed from its {pulled}"
        case Blame.ROOM:
            is_full = failure.detail.startswith("insufficient resources")
            return "no cell has room" if is_full else "no cell takes it"


def cause_of_instances(lrp: DesiredLrp, instances: Iterable[ActualLrp], cache: CacheRepositories) -> str:
    """Describe why wanted instances of an LRP do not run; empty when they run, or when nobody knows why."""
    causes = Counter[str]()
    for each in sorted(instances, key=lambda row: row.index):
        failure = failure_of(each)
        if failure is not None and each.index < lrp.instances:
            causes[cause_of_failure(failure, lrp.rootfs, cache)] += 1
    named = [
        f"{cause} ({count} of {lrp.instances} instances)" if count < lrp.instances else cause
        for cause, count in causes.most_common(_MAX_CAUSES)
    ]
    return "; ".join(named)


def cause_of(observed: Observed, cache: CacheRepositories) -> str:
    """Describe why instances of an observed LRP and of its bridge do not run, the bridge's first."""
    own = "" if observed.lrp is None else cause_of_instances(observed.lrp, observed.instances, cache)
    if observed.bridge is None:
        return own
    bridge = cause_of_instances(observed.bridge, observed.bridge_instances, cache)
    parts = (("bridge", bridge), ("app", own))
    return "; ".join(f"{name}: {cause}" for name, cause in parts if cause)


def detail_of_migration(observed: Observed, reason: Reason, cache: CacheRepositories) -> str:
    """Say why an LRP's migration takes its time or has failed; empty when nothing keeps it from running.

    The instances that a migration failed by are gone when it ends, so what was said of them then is kept.
    """
    if reason.state not in {AppState.MIGRATING, AppState.FAILED} or observed.migration is None:
        return ""
    ended, record = observed.migration.ended, observed.record
    has_failed = ended is not None and ended.state is AppState.FAILED
    if has_failed and record is not None and record.reason.state is AppState.MIGRATING and record.detail:
        return record.detail
    return cause_of(observed, cache)
