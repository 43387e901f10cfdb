"""Builds the loops of a process, and what operators' calls reach, from the config and open resources."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from controller.admin.applier import Applier
from controller.admin.audit import Audit
from controller.admin.backups import BackupReceiver
from controller.admin.cells import Obstacles
from controller.admin.copies import Copies, CopyDependencies
from controller.admin.dependencies import AdminDependencies, Planning, Recovery, RunningDaemon, Stored
from controller.admin.planner import Planner
from controller.admin.survey import Survey, SurveyDependencies
from controller.bbs.client import BbsClient
from controller.cacher import Cacher, CacherDependencies, CopyEngine
from controller.canary import CanaryLoop, Prober, UnaskedCells
from controller.canary_image import CanaryImages
from controller.certificate_ends import CertificateEnds
from controller.certificate_files import certificate_files
from controller.config import Config
from controller.control import OperatorControl
from controller.copy_uses import CopyUses
from controller.coverage import StagingCoverage
from controller.engines.copy_limits import CopyLimits, Verify
from controller.engines.registry_copy import RegistryCopy
from controller.event_cache import LrpEventCache
from controller.health import HealthStates
from controller.health_loop import SUSPECT_INTERVAL, HealthLoop, Probe
from controller.job_listeners import JobListeners
from controller.lrp_index import LrpIndex
from controller.notes import (
    Adoption,
    AdoptionDependencies,
    NoteWriter,
    ReadNotes,
    UnknownCopies,
    WrittenNotes,
)
from controller.presence import Intervals, PresenceDependencies, PresenceLoop, RepairRecords
from controller.process import Process
from controller.pull_login import PullLogin
from controller.reachability import LOOKS, NullMode, Reachability
from controller.reconciler import Reconciler
from controller.registry.oci.platforms import parse_platform
from controller.store.opening import Store
from controller.store.restoring import prepare_restore
from controller.unused_copies import UnusedCopies, UsageSources
from controller.verifier import CopyVerifier
from controller.watcher import Watcher, WatcherDependencies
from controller.wiring import open_registries, pull_login
from controller.workqueue import WorkQueue
from reconcile.apply import ActionPorts
from reconcile.circuit_breaker import CircuitBreaker
from reconcile.live_facts import PassSources
from reconcile.lrps import Credentials, ProcessGuid
from reconcile.observed import Rules
from reconcile.ports import CheckDepth, SourceContent
from reconcile.references import Digest, ImageReference
from reconcile.steps import PhaseLimits


class ProcessEngine(CopyEngine, Protocol):
    """An engine with all that the process asks of it."""

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        """Read every byte of a copy and compare it with its digests."""

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or damaged; empty when nothing is, as far as was looked."""

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        """Read at the source what a copy would consist of, without any layer."""

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest."""

    async def close(self) -> None:
        """Close connections and stop threads."""


class ProcessNotes(ReadNotes, WrittenNotes, Protocol):
    """The notes beside copies, with all that the process asks of them."""


@dataclass(frozen=True, slots=True)
class OpenResources:
    """What a process keeps open as long as it runs, and the state that its parts share.

    Attributes:
        restart: Lets the process begin anew; None where it does an operator's work and ends.
    """

    store: Store
    bbs: BbsClient
    engine: ProcessEngine
    canary_images: CanaryImages | None
    notes: ProcessNotes
    process: Process
    control: OperatorControl
    health: HealthStates
    probe: Probe
    restart: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class DaemonLoops:
    """The loops of a process, and what the calls of operators reach."""

    queue: WorkQueue[ProcessGuid]
    watcher: Watcher
    cacher: Cacher
    reconciler: Reconciler
    cells: CanaryLoop | UnaskedCells
    presence: PresenceLoop
    mode: Reachability | NullMode
    health: HealthLoop
    note_writer: NoteWriter | None
    unknown_copies: UnknownCopies
    unused: UnusedCopies
    pull_login: PullLogin
    certificates: CertificateEnds
    admin: AdminDependencies

    async def recover(self) -> None:
        """Continue what an earlier run left open, before any loop or call of an operator starts."""
        await self.cacher.recover()
        await self.reconciler.recover()

    def close(self) -> None:
        """Stop all timers."""
        self.queue.close()
        self.cacher.close()
        self.watcher.close()
        self.presence.close()


def open_engine(config: Config, store: Store, health: HealthStates) -> ProcessEngine:
    """Open the engine that the config names; its requests show the health of registries."""
    registries = open_registries(config, observer=health)
    limits = CopyLimits(
        max_image_bytes=config.max_image_bytes,
        max_layers=config.max_layers,
        blobs_at_a_time=config.max_blobs_per_copy,
        copies_at_a_time=config.max_copies,
        verify=Verify(config.verify),
        copy_foreign_layers=config.copy_foreign_layers,
        copy_referrers=config.copy_referrers,
    )
    platform = None if config.platforms == "all" else parse_platform(config.platforms)
    repositories = config.cache_repositories
    if config.docker_socket is not None and platform is not None:
        # Imported where it is configured: the docker SDK costs memory and time at the start.
        from controller.engines.docker_daemon import DaemonSettings, DockerCopy  # noqa: PLC0415

        docker = DaemonSettings(config.docker_socket)
        return DockerCopy(registries, repositories, docker, limits=limits, platform=platform)
    return RegistryCopy(registries, repositories, store.records, limits=limits, platform=platform)


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
    process.metrics.paused.set_function(lambda: control.is_paused)
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    coverage, index, event_cache = StagingCoverage(), LrpIndex(), LrpEventCache()
    copy_uses = CopyUses()
    rules, mode = _rules(config, store, limits), _mode(config, opened)
    login = pull_login(config)
    rules.pull_credentials = None if login is None else login.current()
    health = _health(config, opened)
    listeners = JobListeners(coverage, index, queue)
    cacher = Cacher(
        CacherDependencies(
            engine=engine,
            cache=rules.cache,
            jobs=store.records,
            bindings=store.records,
            copies=store.records,
            images=store.records,
            checks=store.copy_checks,
            listeners=listeners,
            gate=control,
            process=process,
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
        ),
        intervals=Intervals(config.copy_check_interval, config.blob_check_interval),
    )
    listeners.of_repairs.append(presence.repair_ended)
    cells = _cells(config, opened, rules)
    sources = PassSources(
        lrps=bbs,
        instances=bbs,
        jobs=store.records,
        bindings=store.records,
        copies=store.records,
        images=store.records,
        journal=store.journal,
        original_sources=store.original_sources,
        records=store.records,
        coverage=coverage,
        event_cache=event_cache,
        mode=mode,
        overrides=control,
    )
    ports = ActionPorts(
        lrps=bbs,
        logins=bbs,
        bridges=bbs,
        instances=bbs,
        journal=store.journal,
        original_sources=store.original_sources,
        images=store.records,
        engine=engine,
        verifier=CopyVerifier(engine, store.records, rules.cache),
        requests=cacher,
        pulls=cells,
        cache=rules.cache,
        limits=rules.limits,
    )
    reconciler = Reconciler(queue, sources=sources, ports=ports, rules=rules, process=process)
    reconciler.gate.watch(opened.health)
    health.listen(reconciler.gate)
    if isinstance(cells, CanaryLoop):
        cells.listen(reconciler.gate)
    watcher = Watcher(
        WatcherDependencies(
            bbs=bbs,
            queue=queue,
            index=index,
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
        ),
        sync_interval=config.sync_interval,
    )
    survey = Survey(
        SurveyDependencies(
            bbs=bbs,
            records=store.records,
            journal=store.journal,
            original_sources=store.original_sources,
            pins=control,
            coverage=coverage,
            contexts=reconciler,
        ),
        rules,
    )

    def use_login(credentials: Credentials) -> None:
        rules.pull_credentials = credentials
        cells.use_login(credentials)
        watcher.request_full_sweep()

    unused = UnusedCopies(
        UsageSources(
            bbs=bbs,
            records=store.records,
            journal=store.journal,
            marks=store.copy_checks,
            pins=control,
            cache=rules.cache,
        ),
        grace=config.eviction_grace,
        process=process,
    )
    certificates = CertificateEnds(certificate_files(config), process=process)
    admin = AdminDependencies(
        planning=Planning(
            survey,
            Planner(survey, engine, store.records, Obstacles(reconciler.gate, cells, opened.health)),
            Applier(survey, control, queue, cells),
        ),
        copies=Copies(
            store.records,
            CopyDependencies(
                engine,
                rules.cache,
                cacher=cacher,
                repairs=presence,
                notes=opened.notes,
                usage=unused,
                checks=store.copy_checks,
            ),
        ),
        jobs=cacher,
        stored=Stored(
            records=store.records,
            journal=store.journal,
            entries=store.operations,
            audit=Audit(store.operations, clock=process.clock),
        ),
        daemon=RunningDaemon(
            control,
            breaker=reconciler.gate,
            watching=watcher,
            mode=mode,
            cells=cells,
            process=process,
            health=health,
            certificates=certificates,
        ),
        recovery=_recovery(config, opened, rules, queue),
    )
    writer = None
    if config.copy_notes:
        writer = NoteWriter(opened.notes, store.copy_notes, after=config.copy_notes_after, process=process)
    unknown = UnknownCopies(copy_uses, store.records, process)
    return DaemonLoops(
        queue=queue,
        watcher=watcher,
        cacher=cacher,
        reconciler=reconciler,
        cells=cells,
        presence=presence,
        mode=mode,
        health=health,
        note_writer=writer,
        unknown_copies=unknown,
        unused=unused,
        pull_login=PullLogin(login, use_login),
        certificates=certificates,
        admin=admin,
    )


def _recovery(config: Config, opened: OpenResources, rules: Rules, queue: WorkQueue[ProcessGuid]) -> Recovery:
    store, path = opened.store, opened.store.path

    def prepare(upload: Path, stamp: str) -> Path:
        if path is None:
            raise AssertionError("a database in memory is not replaced")
        return prepare_restore(upload, path, stamp=stamp, registries=config.private_registries)

    adoption = AdoptionDependencies(
        bbs=opened.bbs,
        notes=opened.notes,
        records=store.copy_notes,
        images=store.records,
        original_sources=store.original_sources,
        cache=rules.cache,
        own=rules.cache.owns,
        domains=rules.domains,
        queue=queue.add,
        clock=opened.process.clock,
    )
    return Recovery(Adoption(adoption), BackupReceiver(path, prepare, opened.restart))


def _rules(config: Config, store: Store, limits: PhaseLimits) -> Rules:
    return Rules(
        policy=config.policy,
        cache=config.cache_repositories,
        domains=frozenset(config.lrp_domains),
        running=config.running_policy,
        unseen_stagings=config.unseen_stagings,
        limits=replace(
            limits,
            bridge=config.bridge_timeout,
            start=config.start_timeout,
            routes=config.route_propagation_delay,
            drain=config.drain_delay,
            cloud_controller_sync=config.cloud_controller_sync_grace,
        ),
        may_bridge=store.journal.is_durable,
        drains_original=config.drain_original,
        max_in_flight=config.max_in_flight,
        circuit_breaker=CircuitBreaker(config.max_consecutive_failures, config.circuit_retry_after),
    )


def _cells(config: Config, opened: OpenResources, rules: Rules) -> CanaryLoop | UnaskedCells:
    if opened.canary_images is None:
        return UnaskedCells()
    prober = Prober(
        opened.bbs,
        opened.canary_images,
        credentials=rules.pull_credentials,
        time_limit=config.canary_timeout,
    )
    return CanaryLoop(prober, pause=opened.control, process=opened.process)


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
