"""The metrics of LRPs and of their migrations."""

from collections.abc import Mapping

from controller.metrics.families import Families
from reconcile.failure_kinds import FailureKind
from reconcile.migrations import Goal, Migration, Phase
from reconcile.protocol import FAILURES
from reconcile.reasons import AppState, Reason

OF_DROPLETS = frozenset(
    {
        Reason.DROPLET_PATCHED,
        Reason.PATCHING_DROPLET,
        Reason.RESTORING_DROPLET,
        Reason.PATCH_UNCONFIRMED,
        Reason.DROPLET_PULLS_NOT_PROVEN,
        Reason.CLOUD_CONTROLLER_UNAVAILABLE,
        Reason.CLOUD_CONTROLLER_DENIED,
        Reason.CLOUD_CONTROLLER_REFUSED,
        Reason.COPY_NAME_REFUSED,
        Reason.IMAGE_CHANGED_EXTERNALLY,
        Reason.DROPLET_NOT_STAGED,
        Reason.DROPLET_GONE,
        Reason.BUILD_FAILED,
        Reason.BUILD_GONE,
    }
)
"""Reasons that only droplets have."""

OF_LRPS = tuple(reason for reason in Reason if reason not in OF_DROPLETS)

_ENDS_EITHER_WAY = (Reason.CANCELLED, Reason.REMOVED_BY_OWNER)
_ENDS = {
    Goal.CACHE: (
        Reason.MIGRATED,
        *sorted(FAILURES),
        Reason.IMAGE_NOT_STARTED,
        Reason.PROCESS_EXITED,
        Reason.NO_ROOM,
        Reason.NO_INSTANCES,
        Reason.REVERTED_EXTERNALLY,
        *_ENDS_EITHER_WAY,
    ),
    Goal.SOURCE: (
        Reason.RESTORED,
        Reason.FELL_BACK_TO_SOURCE,
        Reason.NOT_PULLED,
        Reason.COPY_NOT_PULLED,
        *_ENDS_EITHER_WAY,
    ),
}
"""The usual ends of migrations; there may be others."""

_GOOD_ENDS = frozenset({Reason.MIGRATED, Reason.RESTORED, Reason.FELL_BACK_TO_SOURCE})

_KINDS = {"kind": tuple(FailureKind)}


class LrpMetrics:
    """The LRPs, and the passes over them."""

    def __init__(self, families: Families) -> None:
        self.by_reason = families.late_gauge(
            "lrps",
            "LRPs that the database knows, by the state and the reason that the last pass over each came to",
            {"state": tuple(AppState), "reason": OF_LRPS},
        )
        self.passes = families.counter(
            "passes", "Passes over one LRP, by the reason that the pass came to", {"reason": OF_LRPS}
        )
        self.pass_errors = families.counter(
            "pass_errors", "Passes over one LRP that failed and are repeated, by the kind of failure", _KINDS
        )
        self.queued = families.gauge("lrps_queued", "LRPs that wait for a pass")
        self.outdated_logins = families.gauge(
            "outdated_logins",
            "LRPs that run from a copy with another login for the private registry than the configured one",
        )

    def count(self, counts: Mapping[Reason, int]) -> None:
        """Show how many LRPs have each reason."""
        for reason in {*OF_LRPS, *counts}:
            self.by_reason.labels(reason.state, reason).set(counts.get(reason, 0))


class MigrationMetrics:
    """The migrations of LRPs, and what keeps them from starting."""

    def __init__(self, families: Families) -> None:
        phases = {"phase": tuple(Phase)}
        self.in_flight = families.gauge(
            "migrations_in_flight", "Migrations that are under way, by the phase that they are in", phases
        )
        self.oldest_age = families.gauge(
            "migration_oldest_age_seconds",
            "Seconds since the oldest migration began that is in a phase now; 0 for none",
            phases,
        )
        self.ended = families.counter(
            "migrations",
            "Migrations that ended, by what they were to bring the LRP to, and by the state and the reason "
            'that it then had; those with the state "failed" failed',
            {"goal": tuple(Goal), "state": tuple(AppState), "reason": OF_LRPS},
            [(goal, reason.state, reason) for goal, ends in _ENDS.items() for reason in ends],
        )
        self.duration = families.histogram(
            "migration_duration_seconds",
            "Duration of a migration that ended as it was meant to, in seconds",
            (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
            {"goal": tuple(Goal)},
        )
        self.circuit_breaker_open = families.gauge(
            "circuit_breaker_open",
            "1 while the circuit breaker is open, so that no migration starts: those of too many "
            "organizations and images failed",
        )
        self.set_aside = families.gauge(
            "migrations_set_aside",
            "Organizations and copies whose migrations wait, since too many of them failed in a row",
        )
        self.canaries = families.counter(
            "canaries",
            "Canaries, which ask whether cells can pull from the private registry, by what they showed",
            {"outcome": ("proven", "refuted", "nothing")},
        )
        self.cells_not_proven = families.gauge(
            "cells_not_proven",
            "Sets of placement tags whose cells no canary has shown to pull from the private registry, "
            "although one has run: no LRP with these tags is migrated",
        )
        self.foreign_logins_not_proven = families.gauge(
            "foreign_logins_not_proven",
            "Sets of placement tags and kinds of login (none, or one that the private registry does not "
            "know) with which no canary has shown that cells can pull, although one has run: no droplet "
            "whose LRPs would have such a login is updated",
        )
        self.known_copies_used = families.counter(
            "known_copies_used",
            "Migrations to the newest copy that an app is known to have, since its source did not answer",
        )

    def count_end(self, ended: Migration, reason: Reason, seconds: float) -> None:
        """Count a migration that has ended; one that was turned back was to bring its LRP to its copy."""
        goal = Goal.SOURCE if ended.is_restore else Goal.CACHE
        self.ended.labels(goal, reason.state, reason).inc()
        if reason in _GOOD_ENDS:
            self.duration.labels(goal).observe(max(0.0, seconds))
