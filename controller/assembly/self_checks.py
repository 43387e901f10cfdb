"""Adds the checks by which an active instance tells whether it, and each system it depends on, is healthy."""

from collections.abc import Callable
from functools import partial

from controller.assembly.daemon_loops import DaemonLoops
from controller.assembly.resources import OpenResources
from controller.health_loop import UnhealthyRegistry
from controller.metrics.instance import SelfCheck
from controller.self_checks import SelfChecks
from controller.watcher import Watcher
from reconcile.health import RegistryUse

MOST_NAMED = 3
"""Most source registries, or organizations and copies whose migrations wait, that one line names."""

LATE_SWEEPS = 5
"""Sweep intervals after which a listing of the BBS is too old, but see `OLDEST_LISTING`."""

OLDEST_LISTING = 300.0
"""Seconds before which no listing of the BBS is too old, however short the interval is."""

RECONNECTING_FOR = 30.0
"""Seconds for which the watcher may not be watching, as after each reconnection until the BBS was listed."""

FAILING_FOR = 60.0
"""Seconds for which Cloud Controller or Loggregator's agent may not answer."""


def add_checks(checks: SelfChecks, opened: OpenResources, loops: DaemonLoops, sync_interval: float) -> None:
    """Add the checks of the active instance; `sync_interval` is the seconds between two sweeps."""
    oldest, clock = max(OLDEST_LISTING, LATE_SWEEPS * sync_interval), opened.process.clock
    checks.add(SelfCheck.BBS, lambda: _bbs(loops.watcher, clock, oldest), after=RECONNECTING_FOR)
    checks.add(SelfCheck.PRIVATE_REGISTRY_PULLS, partial(_private, loops, RegistryUse.PULL))
    checks.add(SelfCheck.PRIVATE_REGISTRY_PUSHES, partial(_private, loops, RegistryUse.PUSH))
    checks.add(SelfCheck.SOURCE_REGISTRIES, lambda: _sources(loops))
    checks.add(SelfCheck.CELLS, lambda: _cells(loops.cells.not_proven))
    checks.add(SelfCheck.CIRCUIT_BREAKER, lambda: _breakers(loops))
    checks.add(SelfCheck.COPIES, lambda: _copies(loops.presence.lost))
    checks.add(SelfCheck.OTHER_STORE, lambda: opened.store_marker.obstacle)
    checks.add(SelfCheck.DATABASE, lambda: _outage(opened))
    api, logs = opened.cloud_controller, loops.app_logs
    if api is not None:
        checks.add(
            SelfCheck.CLOUD_CONTROLLER,
            lambda: status.error if (status := api.status()).failing_since is not None else "",
            after=FAILING_FOR,
        )
    if logs is not None:
        checks.add(SelfCheck.LOGGREGATOR_AGENT, lambda: logs.problem, after=FAILING_FOR)


def _bbs(watcher: Watcher, clock: Callable[[], float], oldest: float) -> str:
    age = clock() - watcher.listed_at
    if not watcher.listed_at:
        return "it has not been listed yet"
    if age > oldest:
        return f"it was last listed {age:.0f} s ago"
    return "" if watcher.is_watching else "its events are not followed"


def _described(each: UnhealthyRegistry) -> str:
    return f"{each.failing.fault.words}: {each.failing.said}"


def _private(loops: DaemonLoops, use: RegistryUse) -> str:
    found = (each for each in loops.health.unhealthy if each.is_private and each.use is use)
    return next(map(_described, found), "")


def _sources(loops: DaemonLoops) -> str:
    found = [each for each in loops.health.unhealthy if not each.is_private]
    named = [f"{each.registry}: {_described(each)}" for each in found[:MOST_NAMED]]
    rest = len(found) - len(named)
    return "; ".join([*named, *([f"and {rest} more"] if rest else [])])


def _cells(not_proven: int) -> str:
    what = "set of placement tags" if not_proven == 1 else "sets of placement tags"
    return f"no canary shows that cells of {not_proven} {what} can pull" if not_proven else ""


def _breakers(loops: DaemonLoops) -> str:
    failures = loops.reconciler.gate.failures
    if failures.overall.is_open:
        return str(failures.overall)
    return "; ".join(str(each) for each in failures.set_aside[:MOST_NAMED])


def _copies(lost: int) -> str:
    return f"{lost} of them are incomplete, and no known source can send what is missing" if lost else ""


def _outage(opened: OpenResources) -> str:
    outage = opened.database_watch.outage
    return "" if outage is None else outage.error
