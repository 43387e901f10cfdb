"""Records to save."""

from dataclasses import replace

from reconcile.lrps import (
    AppGuid,
    Credentials,
    DesiredLrp,
    ModificationTag,
    OtherAction,
    ProcessGuid,
    Pull,
    RunAction,
    Secret,
    TaskGuid,
    WrapperAction,
)
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState, LrpRecord, requester_of_task
from reconcile.references import CacheGuid, Digest, Rootfs, parse_image_reference

APP = AppGuid("app-1")
SOURCE = parse_image_reference("registry.example/team/web:7")
MARKER_PASSWORD = "marker-password-c0ffee"
MARKER_ENV = "marker-env-value-beef"


def digest(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def job(name: str = "job-1", *, state: JobState = JobState.QUEUED, created_at: float = 100.25) -> CacheJob:
    return CacheJob(JobId(name), SOURCE, state, Reason.STAGING_TASK, created_at, created_at)


def binding(
    job_id: str = "job-1",
    *,
    task: str = "task-1",
    staged_at: int = 1_700_000_000_000_000_001,
    app: str = APP,
) -> Binding:
    return Binding(AppGuid(app), SOURCE, requester_of_task(TaskGuid(task)), staged_at, JobId(job_id))


def image(guid: CacheGuid, *, platform: Digest, created_at: float = 200.5) -> CachedImage:
    return CachedImage(
        cache_guid=guid,
        source=SOURCE,
        root_digest=digest(1),
        platform_digest=platform,
        digest=platform,
        size=2**40,
        created_at=created_at,
        verified_at=created_at,
        registry="registry.internal:5000",
    )


def lrp_record(process_guid: str = "process-1") -> LrpRecord:
    return LrpRecord(
        ProcessGuid(process_guid), APP, "docker:///team/web#7", None, 0, Reason.WAITING_UNTIL_STOPPED, 1.5
    )


def desired_lrp(process_guid: str = "process-1") -> DesiredLrp:
    run = RunAction("/bin/web", ("--port", "8080"), {"TOKEN": MARKER_ENV})
    return DesiredLrp(
        process_guid=ProcessGuid(process_guid),
        domain="cf-apps",
        app_guid=APP,
        rootfs=Rootfs("docker://registry.example/team/web#7"),
        instances=3,
        tag=ModificationTag("epoch", 7),
        definition=b"\x00\xff" + MARKER_PASSWORD.encode(),
        action=WrapperAction((WrapperAction((run,)), OtherAction())),
        metric_tags={"app_id": "app-1"},
        credentials=Credentials("somebody", Secret(MARKER_PASSWORD)),
    )


def turned_back_migration() -> Migration:
    """Make a row that uses every column."""
    return replace(
        migration(),
        phase=Phase.STARTING,
        rounds=2,
        unknown_until=301.5,
        goal=Goal.SOURCE,
        strategy=Strategy.BRIDGE,
        entered_at=302.5,
        ended=Reason.NOT_PULLED,
        detail="connection refused",
        instance_guids=frozenset({"i-1", "i-2"}),
        is_stopgap=True,
        retired_at=303.5,
        drained_at=304.5,
        drain_sent_at=306.5,
        routed_at=307.5,
        synced_by=305.5,
        renews_login=True,
        way_back=Pull(
            Rootfs("docker://registry.example/team/marker-image#7"),
            Credentials("somebody", Secret(MARKER_PASSWORD)),
        ),
    )


def migration(process_guid: str = "process-1", *, started_at: float = 300.5) -> Migration:
    return Migration(
        process_guid=ProcessGuid(process_guid),
        cache_guid=CacheGuid("a-guid"),
        phase=Phase.PREPARED,
        original=desired_lrp(process_guid),
        rounds=0,
        run_id="run-1",
        started_at=started_at,
    )
