"""Judges the instances of an LRP: which serve, must not be lost or are stale, and why one failed."""

from collections.abc import Iterable

from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp, Presence
from reconcile.start_failures import Blame, StartFailure, placement_failure, start_failure

_AT_REST = frozenset({ActualLrpState.UNCLAIMED, ActualLrpState.CRASHED})


def running(
    lrp: DesiredLrp | None, instances: Iterable[ActualLrp], stale: frozenset[str] = frozenset()
) -> int:
    """Count the indices of an LRP that serve; none of no LRP."""
    return 0 if lrp is None else len(serving_indices(lrp, instances, stale))


def serving_indices(
    lrp: DesiredLrp, instances: Iterable[ActualLrp], stale: frozenset[str] = frozenset()
) -> frozenset[int]:
    """Find the indices of an LRP that serve: those with an instance that runs, is routable and is not stale.

    An index beyond the wanted number is being stopped, although its row still says that it runs.
    """
    return frozenset(
        each.index
        for each in instances
        if each.state is ActualLrpState.RUNNING
        and each.routable
        and each.index < lrp.instances
        and each.instance_guid not in stale
    )


def is_any_running(instances: Iterable[ActualLrp], stale: frozenset[str] = frozenset()) -> bool:
    """Whether an instance of any presence runs that is not stale: it may be the only one that serves."""
    return any(each.state is ActualLrpState.RUNNING and each.instance_guid not in stale for each in instances)


def needed(lrp: DesiredLrp, instances: Iterable[ActualLrp]) -> int:
    """Count the instances that an app must not lose: the wanted indices that run, routable or not."""
    return len(
        {
            each.index
            for each in instances
            if each.state is ActualLrpState.RUNNING and each.index < lrp.instances
        }
    )


def stale_instances(instances: Iterable[ActualLrp], before: frozenset[str]) -> tuple[ActualLrp, ...]:
    """Find the instances that run although their definition was removed.

    Their stop was lost, or a late heartbeat of their cell brought their row back; their instance GUIDs tell.
    Source: cloudfoundry/bbs handlers/desired_lrp_handlers.go, rep generator/generator.go.
    """
    return tuple(each for each in left_over(instances, before) if each.state is ActualLrpState.RUNNING)


def left_over(instances: Iterable[ActualLrp], before: frozenset[str]) -> tuple[ActualLrp, ...]:
    """Find the instances from before a removal that run, or whose image is still being pulled."""
    return tuple(each for each in instances if each.instance_guid and each.instance_guid in before)


def without_container(instances: Iterable[ActualLrp]) -> tuple[ActualLrp, ...]:
    """Find the rows of instances without a container, which the BBS deletes at once when they are retired."""
    return tuple(each for each in instances if each.presence is Presence.ORDINARY and each.state in _AT_REST)


def failure_of(instances: Iterable[ActualLrp]) -> StartFailure | None:
    """Return what instances of an LRP crashed by since they were last running; None when none crashed.

    A failure that speaks against the registry, the copy or the image comes before one of the app itself.
    """
    failures = [
        failure
        for each in instances
        if each.state is not ActualLrpState.RUNNING
        and each.crash_count > 0
        and (failure := start_failure(each.crash_reason)) is not None
    ]
    return min(failures, key=lambda failure: _RANK.index(failure.blame), default=None)


def failure_of_pull(instances: Iterable[ActualLrp]) -> StartFailure | None:
    """Return why cells could not pull the image of an instance; None when they could, or it would not help.

    An image that no cell can run fails from its source as well.
    """
    failure = failure_of(instances)
    return failure if failure is not None and failure.blame in {Blame.REGISTRY, Blame.COPY} else None


def met_pull_failure(instances: Iterable[ActualLrp]) -> StartFailure | None:
    """Return why a cell could not pull the image of an instance that may run by now; None when none failed.

    The row of an instance keeps the reason of its last crash, also when another cell runs it well.
    """
    failures = [
        failure
        for each in instances
        if each.crash_count > 0
        and (failure := start_failure(each.crash_reason)) is not None
        and failure.is_pull_failure
    ]
    return min(failures, key=lambda failure: _RANK.index(failure.blame), default=None)


def lack_of_room(instances: Iterable[ActualLrp]) -> StartFailure | None:
    """Return why no cell takes an instance; None when each of them was placed or none was tried."""
    errors = (placement_failure(each.placement_error) for each in instances)
    return next((error for error in errors if error is not None), None)


_RANK = (Blame.REGISTRY, Blame.COPY, Blame.IMAGE, Blame.PROCESS, Blame.ROOM, Blame.APP)
