"""Tells other parts of the daemon what passes over LRPs came to, and which migrations began and ended."""

from collections.abc import Callable, Mapping

from controller.migration_log import image_of
from controller.process import Process
from reconcile.actions import BeginMigration
from reconcile.app_events import AppEvent, MigrationBegun, MigrationEnded
from reconcile.apply import Outcome
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid
from reconcile.migrations import Migration, Strategy
from reconcile.observed import Observed
from reconcile.reasons import AppState, Reason
from reconcile.references import CacheGuid, CacheRepositories


class PassListeners:
    """Those whom the reconciler tells of its passes; they are called in its loop, and must not block.

    Args:
        cache: The names of copies.
        process: Its clock and its metrics are used.
    """

    def __init__(self, cache: CacheRepositories, process: Process) -> None:
        self._cache, self._process = cache, process
        self.of_ends: list[Callable[[AppGuid, Reason], None]] = []
        """Are told of each migration that has ended: of which app it was, and how it ended."""
        self.of_recoveries: list[Callable[[AppGuid], None]] = []
        """Are told the app of an LRP that its owner desired from its copy after a migration had failed."""
        self.of_failing_former: list[Callable[[AppGuid, CacheGuid, str], None]] = []
        """Are told of each copy in a former registry that an LRP leaves, since cells cannot pull it: of which
        app the LRP is, and what they said."""
        self.of_migrations: list[Callable[[DesiredLrp, AppEvent], None]] = []
        """Are told of each migration that begins or ends, for the app's developers."""
        self.of_tags: list[Callable[[AppGuid, Mapping[str, str]], None]] = []
        """Are told the metric tags of each LRP that a copy is made for."""
        self.of_passes: list[Callable[[ProcessGuid, Reason], None]] = []
        """Are told what each pass over an LRP came to, when it is over; nothing of one that failed."""

    def note_pass(self, key: ProcessGuid, reason: Reason) -> None:
        """Tell what a pass came to."""
        for listener in self.of_passes:
            listener(key, reason)

    def note_tags(self, lrp: DesiredLrp) -> None:
        """Tell the metric tags of an LRP."""
        for listener in self.of_tags:
            listener(lrp.app_guid, lrp.metric_tags)

    def note_begin(self, action: BeginMigration) -> None:
        """Tell of a migration that a pass has begun, and not ended at once."""
        begun = MigrationBegun(
            image=image_of(action.lrp),
            process_type=_process_type_of(action.lrp),
            goal=action.goal,
            has_bridge=action.strategy is Strategy.BRIDGE,
            reason=action.reason,
            renews_login=action.renews_login,
        )
        self._report_to_developers(action.lrp, begun)

    def note_end(self, outcome: Outcome) -> None:
        """Count the end of a migration, and report it; nothing for none."""
        ended, reason = outcome.ended, outcome.reason
        if ended is None:
            return
        seconds = self._process.clock() - ended.started_at
        self._process.metrics.migrations.count_end(ended, reason, seconds)
        for listener in self.of_ends:
            listener(ended.original.app_guid, reason)
        self._report_to_developers(ended.original, self._ended(ended, reason, seconds))

    def note_recovery(self, observed: Observed, outcome: Outcome) -> None:
        """Report an LRP that failed before and is well on its copy; no other."""
        before = observed.record
        has_failed = before is not None and before.reason.state is AppState.FAILED
        is_on_copy = observed.current_copy is not None and outcome.ended is None
        if observed.lrp is None or not has_failed or not is_on_copy:
            return
        if outcome.reason.state is not AppState.FAILED:
            for listener in self.of_recoveries:
                listener(observed.lrp.app_guid)

    def note_failing_former(self, action: BeginMigration, cache_guid: CacheGuid) -> None:
        """Report a copy in a former registry that an LRP leaves."""
        for listener in self.of_failing_former:
            listener(action.lrp.app_guid, cache_guid, action.detail)

    def _report_to_developers(self, lrp: DesiredLrp, event: AppEvent) -> None:
        for listener in self.of_migrations:
            listener(lrp, event)

    def _ended(self, ended: Migration, reason: Reason, seconds: float) -> MigrationEnded:
        return MigrationEnded(
            image=image_of(ended.original),
            copy=str(self._cache.image(ended.cache_guid)),
            process_type=_process_type_of(ended.original),
            goal=ended.goal,
            reason=reason,
            seconds=seconds,
            renews_login=ended.renews_login,
        )


def _process_type_of(lrp: DesiredLrp) -> str:
    """Name the process of an app; empty for the one that every app has."""
    name = lrp.metric_tags.get("process_type", "")
    return "" if name == "web" else name
