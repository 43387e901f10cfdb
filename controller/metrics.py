"""Names the metrics of the daemon.

Loops record metrics, adapters do not. A label's values are constants, such as reasons, so they stay few.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class DropletMetrics:
    """The metrics of the droplets of Cloud Controller."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        self.builds = Counter(
            f"{prefix}builds",
            "Builds of Cloud Controller that were followed after their staging tasks, by what became of them",
            ["outcome"],
            registry=registry,
        )
        self.passes = Counter(
            f"{prefix}droplet_passes",
            "Passes over one droplet of Cloud Controller, by the reason that the pass came to",
            ["reason"],
            registry=registry,
        )
        self.changes = Counter(
            f"{prefix}droplet_changes",
            "Changes of a droplet's image that were sent to Cloud Controller: patched, restored, refused, or "
            "unanswered",
            ["outcome"],
            registry=registry,
        )
        self.patch_seconds = Histogram(
            f"{prefix}droplet_patch_seconds",
            "Seconds from the end of a staging task until its droplet named the copy, where that was in time",
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
            registry=registry,
        )
        self.listings = Counter(
            f"{prefix}droplet_listings",
            "Listings of the droplets of Cloud Controller",
            ["outcome"],
            registry=registry,
        )
        self.by_phase = Gauge(
            f"{prefix}droplets",
            "Droplets of Cloud Controller that are known, by what they name: patching, patched, restoring, "
            "restored, or left as they are",
            ["phase"],
            registry=registry,
        )
        self.waiting = Gauge(
            f"{prefix}droplets_waiting",
            "Droplets that a listing has found, and that wait for their turn to be looked at",
            registry=registry,
        )


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "docker_cache_"
        self.events = Counter(
            f"{prefix}bbs_events", "BBS events that were read", ["stream"], registry=self.registry
        )
        self.unknown_events = Counter(
            f"{prefix}bbs_unknown_events",
            "BBS events of an unknown type, which were skipped",
            registry=self.registry,
        )
        self.broken_events = Counter(
            f"{prefix}bbs_broken_events",
            "BBS events and LRPs in listings that could not be decoded, which were skipped",
            registry=self.registry,
        )
        self.subscriptions = Counter(
            f"{prefix}bbs_subscriptions",
            "Times that both event streams of the BBS were opened",
            registry=self.registry,
        )
        self.sweeps = Counter(
            f"{prefix}sweeps", "Listings of the BBS (sweeps)", ["outcome"], registry=self.registry
        )
        self.sweep_seconds = Histogram(
            f"{prefix}sweep_seconds", "Duration of one listing of the BBS, in seconds", registry=self.registry
        )
        self.staging_tasks = Counter(
            f"{prefix}staging_tasks",
            "Tasks of the staging domain that were examined",
            ["outcome"],
            registry=self.registry,
        )
        self.jobs = Counter(
            f"{prefix}jobs", "Attempts to run a cache job", ["outcome"], registry=self.registry
        )
        self.waiting_jobs = Gauge(
            f"{prefix}waiting_jobs",
            "Cache jobs that wait for a slot: those of stagings, and the backlog",
            ["urgency"],
            registry=self.registry,
        )
        self.slow_transfers = Counter(
            f"{prefix}slow_transfers",
            "Attempts to run a cache job that ended because a registry was slower than min_bytes_per_second",
            registry=self.registry,
        )
        self.job_seconds = Histogram(
            f"{prefix}job_seconds",
            "Duration of an attempt that cached an image, in seconds",
            buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
            registry=self.registry,
        )
        self.transferred_bytes = Counter(
            f"{prefix}transferred_bytes",
            "Bytes that were transferred between registries",
            registry=self.registry,
        )
        self.shown_bytes = Counter(
            f"{prefix}shown_bytes",
            "Bytes that were read at sources only to see that they hold what another trust domain has shown",
            registry=self.registry,
        )
        self.failed_bytes = Counter(
            f"{prefix}failed_bytes",
            "Bytes that were transferred for copies that then failed",
            registry=self.registry,
        )
        self.known_copies_used = Counter(
            f"{prefix}known_copies_used",
            "Migrations to the newest copy that an app is known to have, since its source did not answer",
            registry=self.registry,
        )
        self.passes = Counter(
            f"{prefix}passes",
            "Passes over one LRP, by the reason that the pass came to",
            ["reason"],
            registry=self.registry,
        )
        self.circuit_open = Gauge(
            f"{prefix}circuit_open",
            "1 while the circuit breaker is open, so that no migration starts: those of too many "
            "organizations and images failed",
            registry=self.registry,
        )
        self.migrations_set_aside = Gauge(
            f"{prefix}migrations_set_aside",
            "Organizations and copies whose migrations wait, since too many of them failed in a row",
            registry=self.registry,
        )
        self.canaries = Counter(
            f"{prefix}canaries",
            "Canaries, which ask whether cells can pull from the private registry, by what they showed",
            ["outcome"],
            registry=self.registry,
        )
        self.cells_not_proven = Gauge(
            f"{prefix}cells_not_proven",
            "Sets of placement tags whose cells no canary has shown to pull from the private registry, "
            "although one has run: no LRP with these tags is migrated",
            registry=self.registry,
        )
        self.foreign_logins_not_proven = Gauge(
            f"{prefix}foreign_logins_not_proven",
            "Sets of placement tags and kinds of login (none, or one that the private registry does not "
            "know) with which no canary has shown that cells can pull, although one has run: no droplet "
            "whose LRPs would have such a login is updated",
            registry=self.registry,
        )
        self.private_registry_unhealthy = Gauge(
            f"{prefix}private_registry_unhealthy_since_seconds",
            "Since when the private registry has been unhealthy for pulls or for pushes, in UTC seconds "
            "since 1970; 0 while it is well",
            ["use"],
            registry=self.registry,
        )
        self.unhealthy_sources = Gauge(
            f"{prefix}unhealthy_sources",
            "Source registries that are unhealthy, of those that have served an image or are configured",
            registry=self.registry,
        )
        self.outdated_logins = Gauge(
            f"{prefix}outdated_logins",
            "LRPs that run from a copy with another login for the private registry than the configured one",
            registry=self.registry,
        )
        self.copy_checks = Counter(
            f"{prefix}copy_checks",
            "Looks at copies in the private registry: complete, incomplete, or unanswered by it",
            ["outcome"],
            registry=self.registry,
        )
        self.copies_incomplete = Gauge(
            f"{prefix}copies_incomplete",
            "Copies of which something is missing in the private registry: no new instance starts from them",
            registry=self.registry,
        )
        self.copies_lost = Gauge(
            f"{prefix}copies_lost",
            "Copies of which something is missing that cannot be sent again from any known source",
            registry=self.registry,
        )
        self.cloud_controller_requests = Counter(
            f"{prefix}cloud_controller_requests",
            "Calls to Cloud Controller's API, by what was asked and how it ended; a call that was repeated "
            "counts each time",
            ["call", "outcome"],
            registry=self.registry,
        )
        self.cloud_controller_requests_left = Gauge(
            f"{prefix}cloud_controller_requests_left",
            "Requests to Cloud Controller that are left in the present hour, by the limit that it states or "
            "else the configured one",
            registry=self.registry,
        )
        self.cloud_controller_last_success = Gauge(
            f"{prefix}cloud_controller_last_success_timestamp_seconds",
            "When Cloud Controller last did what it was asked, in UTC seconds since 1970; 0 before the first",
            registry=self.registry,
        )
        self.cloud_controller_failing_since = Gauge(
            f"{prefix}cloud_controller_failing_since_timestamp_seconds",
            "Since when requests to Cloud Controller fail, in UTC seconds since 1970; 0 while they do not",
            registry=self.registry,
        )
        self.paused = Gauge(
            f"{prefix}paused",
            "1 while the daemon is paused: only what an operator orders is started",
            registry=self.registry,
        )
        self.lock_held = Gauge(
            f"{prefix}lock_held",
            "1 while this instance is the active one; the sum over all instances is 1",
            registry=self.registry,
        )
        self.lease_seconds = Gauge(
            f"{prefix}lease_seconds",
            "Seconds for which this instance may act without a further renewal of its lock: 0 for a standby, "
            "infinite where it needs no lock",
            registry=self.registry,
        )
        self.leadership_term = Gauge(
            f"{prefix}leadership_term",
            "How many times an instance has become active on the database of this one, when this one did; 0 "
            "for a standby",
            registry=self.registry,
        )
        self.database_unavailable = Gauge(
            f"{prefix}database_unavailable_since_seconds",
            "Since when the database on a server has not done what it is asked, in UTC seconds since 1970; 0 "
            "while it does, and for a database in a file",
            registry=self.registry,
        )
        self.other_stores = Gauge(
            f"{prefix}other_stores",
            "Other stores with which daemons work on this BBS; while there are any, nothing there is changed",
            registry=self.registry,
        )
        self.certificate_end = Gauge(
            f"{prefix}certificate_end_timestamp_seconds",
            "When the first certificate in a file ends, in UTC seconds since 1970, by the file's config key",
            ["file"],
            registry=self.registry,
        )
        self.unused_copies = Gauge(
            f"{prefix}unused_copies",
            "Copies that nothing used when that was last looked at",
            registry=self.registry,
        )
        self.unused_copy_bytes = Gauge(
            f"{prefix}unused_copy_bytes",
            "Bytes of these copies; layers that several share are counted for each",
            registry=self.registry,
        )
        self.copy_notes = Counter(
            f"{prefix}copy_notes",
            "Notes that were written beside copies, from which a lost database can be rebuilt",
            ["outcome"],
            registry=self.registry,
        )
        self.unknown_copies = Gauge(
            f"{prefix}unknown_copies",
            "Copies that LRPs run from and that the database does not know: `rebuild` adopts them",
            registry=self.registry,
        )
        self.app_log_entries = Counter(
            f"{prefix}app_log_entries",
            "Lines for the logs of apps, and counters for operators, by what became of them: sent to the "
            "Loggregator agent, dropped since too many waited, limited by the rate of their app, or refused",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("sent", "dropped", "limited", "refused"):
            self.app_log_entries.labels(outcome=outcome)
        self.app_log_entries_waiting = Gauge(
            f"{prefix}app_log_entries_waiting",
            "Lines and counters that wait for the Loggregator agent",
            registry=self.registry,
        )
        self.loggregator_agent_up = Gauge(
            f"{prefix}loggregator_agent_up",
            "1 if the Loggregator agent took the last batch of lines; 0 if it did not, and before the first",
            registry=self.registry,
        )
        self.docker_lrps = Gauge(
            f"{prefix}docker_lrps",
            "Docker LRPs in the last listing of the BBS",
            ["runs_from"],
            registry=self.registry,
        )
        self.droplets = DropletMetrics(self.registry, prefix)
