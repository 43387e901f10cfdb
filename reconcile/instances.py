"""Judges the instances of an LRP: which of them serve, which must not be lost, and which are stale."""

from collections.abc import Iterable

from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp


def running(
    lrp: DesiredLrp | None, instances: Iterable[ActualLrp], stale: frozenset[str] = frozenset()
) -> int:
    """Count the indices of an LRP that serve: those with an instance that runs, is routable and is not stale.

    An index beyond the wanted number is being stopped, although its row still says that it runs.
    """
    if lrp is None:
        return 0
    return len(
        {
            each.index
            for each in instances
            if each.state is ActualLrpState.RUNNING
            and each.routable
            and each.index < lrp.instances
            and each.instance_guid not in stale
        }
    )


def is_any_running(instances: Iterable[ActualLrp]) -> bool:
    """Whether an instance of any presence runs, since that may be the only one that serves."""
    return any(each.state is ActualLrpState.RUNNING for each in instances)


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
    return tuple(
        each
        for each in instances
        if each.state is ActualLrpState.RUNNING and each.instance_guid and each.instance_guid in before
    )
