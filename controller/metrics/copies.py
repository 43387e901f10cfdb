"""The metrics of cache jobs, and of the copies that they make."""

from controller.metrics.families import Families, Open
from reconcile.failure_kinds import FailureKind
from reconcile.fairness import Urgency
from reconcile.records import JobState

OPEN_STATES = (JobState.QUEUED, JobState.COPYING)

HOW = ("transferred", "mounted", "present")
"""How the bytes of a copy came into the private registry: they were transferred from the source, mounted from
another copy's repository, or present already."""


class JobMetrics:
    """The cache jobs."""

    def __init__(self, families: Families) -> None:
        self.by_state = families.late_gauge(
            "jobs", "Cache jobs that the database knows", {"state": tuple(JobState)}
        )
        self.oldest_age = families.gauge(
            "job_oldest_age_seconds",
            "Seconds since the oldest cache job was requested that is in a state now; 0 for none",
            {"state": OPEN_STATES},
        )
        self.waiting = families.gauge(
            "jobs_waiting",
            "Cache jobs that wait for a slot: those of stagings, and the backlog",
            {"urgency": tuple(each.name.lower() for each in Urgency)},
        )
        self.attempts = families.counter(
            "job_attempts",
            "Attempts to run a cache job: it is cached, is tried again, or has failed",
            {"outcome": ("cached", "again", "failed")},
        )
        self.failures = families.counter(
            "job_failures",
            "Failed attempts of cache jobs, by kind, and by whether the job is tried again or has failed",
            {"outcome": ("again", "failed"), "kind": tuple(FailureKind)},
        )
        self.duration = families.histogram(
            "job_duration_seconds",
            "Duration of an attempt that cached an image, in seconds",
            (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
        )
        self.slow_transfers = families.counter(
            "slow_transfers",
            "Attempts to run a cache job that ended because a registry was slower than min_bytes_per_second",
        )
        self.copied_bytes = families.counter(
            "copied_bytes",
            "Bytes of finished copies, by their source registry, and by how they came into the private one: "
            "they were transferred, mounted from another copy, or present already",
            {"registry": Open("source registries, see above"), "how": HOW},
        )
        self.shown_bytes = families.counter(
            "shown_bytes",
            "Bytes that were read at sources only to see that they hold what another trust domain has shown",
        )
        self.failed_bytes = families.counter(
            "failed_bytes", "Bytes that were transferred for copies that then failed"
        )

    def count_failure(self, outcome: str, kind: FailureKind) -> None:
        """Count an attempt that failed: the job is tried again, or has failed."""
        self.attempts.labels(outcome).inc()
        self.failures.labels(outcome, kind).inc()

    def count_bytes(self, registry: str, *, transferred: int, mounted: int, present: int) -> None:
        """Count the bytes of a finished copy, by how they came into the private registry."""
        for how, count in zip(HOW, (transferred, mounted, present), strict=True):
            self.copied_bytes.labels(registry, how).inc(count)


class CopyMetrics:
    """The copies in the private registry."""

    def __init__(self, families: Families) -> None:
        self.stored = families.late_gauge("stored_copies", "Copies in the private registry")
        self.stored_bytes = families.late_gauge(
            "stored_bytes", "Bytes of these copies; layers that several share are counted for each"
        )
        self.stored_distinct_bytes = families.late_gauge(
            "stored_distinct_bytes",
            "Bytes that these copies occupy: a layer that several share is counted once",
        )
        self.checks = families.counter(
            "copy_checks",
            "Looks at copies in the private registry: complete, incomplete, or unanswered by it",
            {"outcome": ("complete", "incomplete", "unanswered")},
        )
        self.incomplete = families.gauge(
            "copies_incomplete",
            "Copies of which something is missing in the private registry: no new instance starts from them",
        )
        self.lost = families.gauge(
            "copies_lost",
            "Copies of which something is missing that cannot be sent again from any known source",
        )
        self.needing_verification = families.late_gauge(
            "copies_needing_verification",
            "Copies that may be corrupt, since instances crashed from them, and that are read back first",
        )
        self.unused = families.gauge("unused_copies", "Copies that nothing used when that was last looked at")
        self.unused_bytes = families.gauge(
            "unused_copy_bytes", "Bytes of these copies; layers that several share are counted for each"
        )
        self.notes = families.counter(
            "copy_notes",
            "Notes that were written beside copies, from which a lost database can be rebuilt",
            {"outcome": ("written", "failed")},
        )
        self.unknown = families.gauge(
            "unknown_copies",
            "Copies that LRPs run from and that the database does not know: `rebuild` adopts them",
        )
