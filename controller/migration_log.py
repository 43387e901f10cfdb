"""Logs each migration that has ended in one line that says all of it.

The lowest number of instances is that of the passes, one of which follows each change of an instance; after a
restart of the process it is the lowest since then.
"""

from collections.abc import Callable

import structlog

from controller.app_tags import named
from reconcile.apply import Outcome
from reconcile.instances import serving_indices
from reconcile.lrps import DesiredLrp, ProcessGuid
from reconcile.migrations import Goal, Migration
from reconcile.observed import Observed
from reconcile.reasons import AppState, Reason
from reconcile.references import CacheRepositories, Rootfs, source_from_rootfs

log = structlog.get_logger(scope="reconciler")

DONE = frozenset({Reason.MIGRATED, Reason.RESTORED, Reason.FELL_BACK_TO_SOURCE})
"""How a migration ends that came to its goal."""


class MigrationLog:
    """The migrations that are under way, as far as their lines need what has been seen of them.

    Args:
        cache: The names of copies.
        clock: Gives UTC seconds since 1970.
    """

    def __init__(self, cache: CacheRepositories, clock: Callable[[], float]) -> None:
        self._cache, self._clock = cache, clock
        self._lowest: dict[ProcessGuid, int] = {}

    def look(self, observed: Observed) -> None:
        """Note how many instances of an LRP serve, its bridge's included, while it is being migrated."""
        key, row = observed.process_guid, observed.migration
        if row is None:
            self._lowest.pop(key, None)
            return
        serving = len(serving_indices(row.original, observed.instances))
        if observed.bridge is not None:
            serving += len(serving_indices(observed.bridge, observed.bridge_instances))
        serving = min(serving, row.original.instances)
        self._lowest[key] = min(serving, self._lowest.get(key, serving))

    def ended(self, observed: Observed, outcome: Outcome, size: int | None) -> None:
        """Log a migration that has ended with a pass.

        Args:
            observed: By the pass.
            outcome: Of the pass, with the migration.
            size: Bytes of the copy; None where it is not known.
        """
        row = outcome.ended
        if row is None:
            return
        reason, original = outcome.reason, row.original
        comes_from, goes_to = self._way(row, observed)
        fields = {
            **named(original.metric_tags),
            "app_guid": original.app_guid,
            "process_guid": row.process_guid,
            "process_type": original.metric_tags.get("process_type", ""),
            "comes_from": comes_from,
            "goes_to": goes_to,
            "goal": row.goal,
            "strategy": row.strategy,
            "reason": reason,
            "detail": outcome.detail,
            "bytes": size,
            "duration_s": round(max(0.0, self._clock() - row.started_at), 3),
            "instances": original.instances,
            "lowest_instances": self._lowest.pop(row.process_guid, None),
            "round": row.rounds,
        }
        if reason in DONE:
            log.info("migrated", **fields)
        elif reason.state is AppState.FAILED:
            log.error("failed-to-migrate", **fields)
        else:
            log.info("ended-migration", **fields)

    def _way(self, row: Migration, observed: Observed) -> tuple[str, str]:
        """Name the image that an LRP was to leave, and the one that it was to run from."""
        copy = str(self._cache.image(row.cache_guid))
        if row.renews_login:
            return copy, copy
        if row.way_back is not None:  # it was to run from the copy, and goes back
            return image_text(row.way_back.rootfs), copy
        if row.goal is Goal.CACHE:
            return image_text(row.original.rootfs), copy
        source = observed.original_source
        return copy, "" if source is None else image_text(source.rootfs)


def image_text(rootfs: Rootfs) -> str:
    """Write the image that a rootfs names, or the rootfs where it names none."""
    image = source_from_rootfs(rootfs)
    return str(rootfs) if image is None else str(image)


def image_of(lrp: DesiredLrp) -> str:
    """Write the image that an LRP runs from."""
    return image_text(lrp.rootfs)
