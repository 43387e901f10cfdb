"""Builds the loops of a process from the config and open resources."""

from controller.abandoned_uploads import AbandonedUploads
from controller.app_logs import AppLogs, LogQueue
from controller.app_placements import AppPlacements
from controller.app_tags import AppTags
from controller.assembly.admin_calls import RunningWork, admin_calls
from controller.assembly.daemon_loops import DaemonLoops
from controller.assembly.droplets import DropletParts, assemble_droplets
from controller.assembly.resources import OpenResources
from controller.assembly.rules import rules_of
from controller.cacher import Cacher, CacherDependencies, JobLimits
from controller.canary import CanaryLoop, DropletPulls, NullCanaryLoop, Prober
from controller.config import Config
from controller.control import OperatorControl
from controller.copy_uses import CopyUses
from controller.coverage import StagingCoverage
from controller.current_stagings import CurrentStagings
from controller.droplet_uses import DropletUses
from controller.droplets import Droplets, KnownDroplets
from controller.event_cache import LrpEventCache
from controller.failure_keeper import FailureKeeper
from controller.health_loop import SUSPECT_INTERVAL, HealthLoop
from controller.job_listeners import JobListeners
from controller.lrp_index import LrpIndex
from controller.notes import (
    NoteWriter,
    UnknownCopies,
)
from controller.pause_report import PauseReport
from controller.presence import Intervals, PresenceDependencies, PresenceLoop, RepairRecords
from controller.pull_login import PullLogin
from controller.reachability import LOOKS, NullMode, Reachability
from controller.reconciler import Reconciler
from controller.retention import Retention
from controller.store_counts import StoreCounts
from controller.unused_copies import UnusedCopies, UsageSources
from controller.verifier import CopyVerifier
from controller.watcher import Watcher, WatcherDependencies
from controller.wiring import pull_login, slots_of, slowest_transfer
from controller.workqueue import WorkQueue
from reconcile.apply import ActionPorts
from reconcile.failed_bytes import FailedBytesBudget
from reconcile.live_facts import PassSources
from reconcile.lrps import Credentials, ProcessGuid
from reconcile.observed import Rules
from reconcile.steps import PhaseLimits
from reconcile.trust import Sharing


def assemble(
    config: Config,
    opened: OpenResources,
    *,
    limits: PhaseLimits = PhaseLimits(),  # noqa: B008 - a frozen value
) -> DaemonLoops:
    """Build the loops; nothing runs yet.

    Args:
        config: Of the daemon.
        opened: What the loops work with.
        limits: Those of the protocol that the config does not say.
    """
    store, bbs, engine, process, control = (
        opened.store,
        opened.bbs,
        opened.engine,
        opened.process,
        opened.control,
    )
    process.metrics.instance.paused.set_function(lambda: control.is_paused)
    process.metrics.instance.pinned_apps.set_function(lambda: len(control.pinned_apps))
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    process.metrics.lrps.queued.set_function(lambda: len(queue))
    coverage, index, event_cache = StagingCoverage(), LrpIndex(), LrpEventCache()
    copy_uses, placements, known = CopyUses(), AppPlacements(), KnownDroplets()
    rules, mode = rules_of(config, store, limits), _mode(config, opened)
    login = pull_login(config)
    rules.pull_credentials = None if login is None else login.current()
    health = _health(config, opened)
    listeners, tags = JobListeners(coverage, index, queue), AppTags()
    cacher = Cacher(
        CacherDependencies(
            engine=engine,
            cache=rules.cache,
            sharing=Sharing(config.share_content, store.login_keys),
            jobs=store.records,
            bindings=store.records,
            proofs=store.content_proofs,
            indexes=store.content_proofs,
            images=store.records,
            checks=store.copy_checks,
            listeners=listeners,
            gate=control,
            process=process,
            app_tags=tags,
            slots=slots_of(config),
            limits=JobLimits(config.max_job_time, slowest_transfer(config)),
            failed_bytes=FailedBytesBudget(config.max_failed_bytes_per_day),
        )
    )
    presence = PresenceLoop(
        PresenceDependencies(
            registry=engine,
            cache=rules.cache,
            images=store.records,
            checks=store.copy_checks,
            requests=cacher,
            records=RepairRecords(store.records, store.records, store.original_sources),
            uses=copy_uses,
            queue=queue,
            process=process,
            named=known.index,
        ),
        intervals=Intervals(config.copy_check_interval, config.blob_check_interval),
    )
    listeners.of_repairs.append(presence.repair_ended)
    cells, stagings = _cells(config, opened, rules), _stagings(opened)
    sources = PassSources(
        lrps=bbs,
        instances=bbs,
        jobs=store.records,
        bindings=store.records,
        copies=store.records,
        images=store.records,
        journal=store.journal,
        original_sources=store.original_sources,
        droplets=store.droplets,
        records=store.records,
        coverage=coverage,
        event_cache=event_cache,
        mode=mode,
        overrides=control,
        droplet_pulls=_droplet_pulls(opened, cells, rules),
        stagings=stagings,
    )
    verifier = CopyVerifier(engine, store.records, rules.cache, at_a_time=max(1, config.workers // 2))
    ports = ActionPorts(
        lrps=bbs,
        logins=bbs,
        bridges=bbs,
        instances=bbs,
        journal=store.journal,
        original_sources=store.original_sources,
        images=store.records,
        engine=engine,
        verifier=verifier,
        requests=cacher,
        pulls=cells,
        cache=rules.cache,
        limits=rules.limits,
    )
    reconciler = Reconciler(queue, sources=sources, ports=ports, rules=rules, process=process)
    reconciler.gate.watch(opened.health)
    health.of_served_pulls.append(reconciler.gate.note_served_pulls)
    if isinstance(cells, CanaryLoop):
        cells.listen(reconciler.gate)
    parts = DropletParts(
        known=known,
        index=index,
        placements=placements,
        cacher=cacher,
        listeners=listeners,
        failures=reconciler.gate.failures,
        listeners_of_passes=reconciler.listeners,
        cells=cells,
        presence=presence,
        verifier=verifier,
        mode=mode,
        health=health,
    )
    droplets = assemble_droplets(config, opened, rules, parts)
    reconciler.listeners.of_tags.append(tags.note)
    app_logs = _app_logs(config, opened, cacher, tags)
    if app_logs is not None:
        listeners.of_stagings.append(app_logs.copy_event)
        reconciler.listeners.of_migrations.append(app_logs.lrp_event)
        if isinstance(droplets.loops, Droplets):
            droplets.loops.of_changes.append(app_logs.happened)
    watcher = Watcher(
        WatcherDependencies(
            bbs=bbs,
            queue=queue,
            index=index,
            placements=placements,
            stagings=droplets.loops,
            copy_uses=copy_uses,
            presence=presence,
            coverage=coverage,
            requests=cacher,
            bindings=store.records,
            records=store.records,
            event_cache=event_cache,
            stops=ports.stops,
            mode=mode,
            rules=rules,
            process=process,
            of_tags=(tags.note,),
            of_full_sweeps=(_pause_report(control, queue, cacher, reconciler).note_sweep,),
        ),
        sync_interval=config.sync_interval,
    )

    def use_login(credentials: Credentials) -> None:
        rules.pull_credentials = credentials
        cells.use_login(credentials)
        watcher.request_full_sweep()

    droplet_uses = _droplet_uses(opened, rules)
    unused = _unused_copies(config, opened, rules, droplet_uses)
    store_counts = StoreCounts(store.counts, rules.cache, process)
    work = RunningWork(
        queue=queue,
        watcher=watcher,
        cacher=cacher,
        reconciler=reconciler,
        coverage=coverage,
        stagings=stagings,
        cells=cells,
        presence=presence,
        mode=mode,
        health=health,
        droplet_uses=droplet_uses,
        unused=unused,
        certificates=opened.certificates,
        store_counts=store_counts,
        droplets=droplets.for_operators,
    )
    admin = admin_calls(config, opened, rules, work)
    writer = None
    if config.copy_notes:
        writer = NoteWriter(opened.notes, store.copy_notes, after=config.copy_notes_after, process=process)
    unknown = UnknownCopies(copy_uses, store.records, process)
    return DaemonLoops(
        queue=queue,
        watcher=watcher,
        cacher=cacher,
        reconciler=reconciler,
        failures=FailureKeeper(reconciler.gate.failures, store.failures),
        event_cache=event_cache,
        stale_instances=store.stale_instances,
        cells=cells,
        presence=presence,
        mode=mode,
        health=health,
        note_writer=writer,
        unknown_copies=unknown,
        unused=unused,
        pull_login=PullLogin(login, use_login),
        certificates=opened.certificates,
        uploads=AbandonedUploads(engine, store.open_uploads),
        retention=Retention(store.records, after=config.record_retention, process=process),
        store_marker=opened.store_marker,
        droplets=droplets.loops,
        database_watch=opened.database_watch,
        store_counts=store_counts,
        app_logs=app_logs,
        admin=admin,
    )


def _pause_report(
    control: OperatorControl, queue: WorkQueue[ProcessGuid], cacher: Cacher, reconciler: Reconciler
) -> PauseReport:
    report = PauseReport(queue, lambda: control.is_paused, lambda: cacher.pending_jobs)
    reconciler.listeners.of_passes.append(report.note_pass)
    control.of_resumption.append(report.note_resumption)
    return report


def _app_logs(config: Config, opened: OpenResources, cacher: Cacher, tags: AppTags) -> AppLogs | None:
    if opened.loggregator is None:
        return None
    batch, process = config.loggregator.loggregator_batch_max_size, opened.process
    return AppLogs(LogQueue(opened.loggregator, process, batch=batch), cacher.progress, process, tags)


def _stagings(opened: OpenResources) -> CurrentStagings | None:
    api = opened.cloud_controller
    if api is None:
        return None
    return CurrentStagings(api, opened.store.droplets, monotonic=opened.process.monotonic)


def _droplet_uses(opened: OpenResources, rules: Rules) -> DropletUses:
    api = opened.cloud_controller
    return DropletUses(
        opened.store.droplets,
        api,
        None if api is None else api.background(),
        cache=rules.cache,
        monotonic=opened.process.monotonic,
    )


def _unused_copies(
    config: Config, opened: OpenResources, rules: Rules, droplets: DropletUses
) -> UnusedCopies:
    store = opened.store
    return UnusedCopies(
        UsageSources(
            bbs=opened.bbs,
            records=store.records,
            journal=store.journal,
            marks=store.copy_checks,
            pins=opened.control,
            cache=rules.cache,
            other_store=lambda: opened.store_marker.obstacle,
            droplets=droplets,
        ),
        grace=config.eviction_grace,
        process=opened.process,
    )


def _cells(config: Config, opened: OpenResources, rules: Rules) -> CanaryLoop | NullCanaryLoop:
    if opened.canary_images is None:
        return NullCanaryLoop()
    prober = Prober(
        opened.bbs,
        opened.canary_images,
        credentials=rules.pull_credentials,
        time_limit=config.canary_timeout,
    )
    return CanaryLoop(prober, pause=opened.control, process=opened.process)


def _droplet_pulls(
    opened: OpenResources, cells: CanaryLoop | NullCanaryLoop, rules: Rules
) -> DropletPulls | None:
    if opened.cloud_controller is None:
        return None
    return DropletPulls(cells, cells_have_login=rules.pull_credentials is not None)


def _mode(config: Config, opened: OpenResources) -> Reachability | NullMode:
    if config.restore_after is None:
        return NullMode()
    return Reachability(
        opened.health, opened.store.records, restore_after=config.restore_after, process=opened.process
    )


def _health(config: Config, opened: OpenResources) -> HealthLoop:
    looks = SUSPECT_INTERVAL if config.restore_after is None else config.restore_after / LOOKS
    return HealthLoop(
        opened.health,
        opened.probe,
        opened.store.records,
        process=opened.process,
        look_interval=min(looks, SUSPECT_INTERVAL),
    )
