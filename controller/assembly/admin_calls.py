"""Builds what the calls of operators reach."""

from dataclasses import dataclass
from pathlib import Path

from controller.admin.app_directory import AppDirectory
from controller.admin.applier import Applier
from controller.admin.audit import Audit
from controller.admin.backups import BackupReceiver
from controller.admin.cells import Obstacles
from controller.admin.copies import Copies, CopyDependencies
from controller.admin.dependencies import (
    AdminDependencies,
    Planning,
    Recovery,
    RunningDaemon,
    Stored,
    WaitingWork,
)
from controller.admin.droplet_planner import DropletPlanner
from controller.admin.droplets import AdminDroplets
from controller.admin.planner import PlannedCopying, Planner
from controller.admin.survey import Survey, SurveyDependencies
from controller.assembly.resources import OpenResources
from controller.cacher import Cacher
from controller.canary import CanaryLoop, NullCanaryLoop
from controller.certificate_ends import CertificateEnds
from controller.config import Config
from controller.coverage import StagingCoverage
from controller.current_stagings import CurrentStagings
from controller.droplet_uses import DropletUses
from controller.health_loop import HealthLoop
from controller.notes import (
    Adoption,
    AdoptionDependencies,
    DropletSources,
)
from controller.presence import PresenceLoop
from controller.reachability import NullMode, Reachability
from controller.reconciler import Reconciler
from controller.store.restoring import prepare_restore
from controller.store_counts import StoreCounts
from controller.unused_copies import UnusedCopies
from controller.watcher import Watcher
from controller.workqueue import WorkQueue
from reconcile.lrps import ProcessGuid
from reconcile.observed import Rules
from reconcile.trust import Sharing


@dataclass(frozen=True, slots=True)
class RunningWork:
    """The loops that calls of operators ask, or change."""

    queue: WorkQueue[ProcessGuid]
    watcher: Watcher
    cacher: Cacher
    reconciler: Reconciler
    coverage: StagingCoverage
    stagings: CurrentStagings | None
    cells: CanaryLoop | NullCanaryLoop
    presence: PresenceLoop
    mode: Reachability | NullMode
    health: HealthLoop
    droplet_uses: DropletUses
    unused: UnusedCopies
    certificates: CertificateEnds
    store_counts: StoreCounts
    droplets: AdminDroplets


def admin_calls(config: Config, opened: OpenResources, rules: Rules, work: RunningWork) -> AdminDependencies:
    """Build what the calls of operators reach."""
    store, bbs, control = opened.store, opened.bbs, opened.control
    gate = work.reconciler.gate
    survey = Survey(
        SurveyDependencies(
            bbs=bbs,
            records=store.records,
            journal=store.journal,
            original_sources=store.original_sources,
            droplets=store.droplets,
            pins=control,
            coverage=work.coverage,
            contexts=work.reconciler,
            stagings=work.stagings,
        ),
        rules,
    )
    return AdminDependencies(
        planning=Planning(
            survey,
            Planner(
                survey,
                PlannedCopying(opened.engine, store.records, Sharing(config.share_content, store.login_keys)),
                Obstacles(gate.failures, work.cells, opened.health),
                DropletPlanner(work.droplets),
            ),
            Applier(survey, control, work.queue, work.cells, work.droplets),
        ),
        copies=Copies(
            store.records,
            CopyDependencies(
                opened.engine,
                rules.cache,
                cacher=work.cacher,
                repairs=work.presence,
                notes=opened.notes,
                usage=work.unused,
                checks=store.copy_checks,
            ),
        ),
        jobs=work.cacher,
        droplets=work.droplets,
        directory=AppDirectory(survey, work.droplets),
        stored=Stored(
            records=store.records,
            pages=store.pages,
            journal=store.journal,
            entries=store.operations,
            audit=Audit(store.operations, clock=opened.process.clock),
        ),
        daemon=RunningDaemon(
            control,
            gate=gate,
            watching=work.watcher,
            mode=work.mode,
            cells=work.cells,
            process=opened.process,
            health=work.health,
            certificates=work.certificates,
            store_marker=opened.store_marker,
            database=opened.database_watch,
            count_waiting=lambda: WaitingWork(gate.migrations, work.queue.failing, work.cacher.pending_jobs),
            distinct_bytes=lambda: work.store_counts.distinct_bytes,
        ),
        recovery=_recovery(config, opened, rules, work),
    )


def _recovery(config: Config, opened: OpenResources, rules: Rules, work: RunningWork) -> Recovery:
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
        droplets=DropletSources(
            work.droplet_uses, store.droplets, opened.cloud_controller, cache=rules.cache
        ),
        cache=rules.cache,
        own=rules.cache.owns,
        domains=rules.domains,
        queue=work.queue.add,
        clock=opened.process.clock,
    )
    return Recovery(Adoption(adoption), BackupReceiver(path, prepare, opened.restart), opened.store.sealing)
