"""Builds the loops of a process, and what operators' calls reach, out of the config and what it opened."""

from dataclasses import dataclass
from typing import Protocol

from controller.admin.applier import Applier
from controller.admin.audit import Audit
from controller.admin.images import Images, Shelf
from controller.admin.planner import Planner
from controller.admin.queries import Desk
from controller.admin.survey import Survey, SurveyDependencies
from controller.bbs.client import BbsClient
from controller.cacher import Cacher, CopyEngine, Copying, Records
from controller.config import Config, read_secret
from controller.control import Control
from controller.coverage import Coverage, Followers, LrpIndex
from controller.engines.copy_plan import CopyLimits, Verify
from controller.engines.docker_daemon import DaemonSettings, DockerCopy
from controller.engines.registry_copy import RegistryCopy
from controller.event_cache import EventCache
from controller.process import Process
from controller.reachability import NullMode, Reachability
from controller.reconciler import Reconciler
from controller.registry.platforms import parse_platform
from controller.store import Store, cipher_from_key
from controller.transport import client_tls
from controller.verifier import ReadBack
from controller.watcher import Found, Watcher
from controller.wiring import open_registries, pull_credentials
from controller.workqueue import WorkQueue
from reconcile.apply import PassTargets
from reconcile.circuit import Circuit
from reconcile.images import Digest, ImageReference
from reconcile.live_facts import PassSources
from reconcile.lrps import Credentials, ProcessGuid
from reconcile.observed import Rules
from reconcile.ports import SourceContent
from reconcile.steps import PhaseLimits


class Engine(CopyEngine, Protocol):
    """An engine with all that the process asks of it."""

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        """Read every byte of a copy and hash it."""

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        """Read at the source what a copy would consist of, without any layer."""

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest."""

    async def close(self) -> None:
        """Let go of threads and connections."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the process pins open."""

    store: Store
    bbs: BbsClient
    engine: Engine
    process: Process
    control: Control


@dataclass(frozen=True, slots=True)
class Loops:
    """What runs, and what stops it."""

    queue: WorkQueue[ProcessGuid]
    watcher: Watcher
    cacher: Cacher
    reconciler: Reconciler
    mode: Reachability | NullMode
    desk: Desk

    async def recover(self) -> None:
        """Take up what an earlier run left, before anybody sees or changes anything."""
        await self.cacher.recover()
        await self.reconciler.recover()

    def close(self) -> None:
        """Stop all timers."""
        self.queue.close()
        self.cacher.close()
        self.watcher.close()


def check_usable(config: Config) -> None:
    """Open what a config names, and close it again; blocks.

    Raises:
        Invalid: A file is no certificate, no key, or no login.
    """
    client_tls(
        config.bbs_ca_cert_file,
        cert_file=config.bbs_client_cert_file,
        key_file=config.bbs_client_key_file,
    )
    if config.journal_key_file is not None:
        cipher_from_key(read_secret(config.journal_key_file).encode())
    open_registries(config).close()


def open_engine(config: Config, store: Store) -> Engine:
    """Open the engine that the config names."""
    registries = open_registries(config)
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
        docker = DaemonSettings(config.docker_socket)
        return DockerCopy(registries, repositories, docker, limits=limits, platform=platform)
    return RegistryCopy(registries, repositories, store.records, limits=limits, platform=platform)


def assemble(config: Config, opened: Opened) -> Loops:
    """Build the loops; nothing runs yet."""
    store, bbs, engine, process, control = (
        opened.store,
        opened.bbs,
        opened.engine,
        opened.process,
        opened.control,
    )
    process.metrics.paused.set_function(lambda: control.is_paused)
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    coverage, index, event_cache = Coverage(), LrpIndex(), EventCache()
    rules, mode = _rules(config, store), _mode(config, opened)
    cacher = Cacher(
        Copying(engine, rules.cache),
        records=Records(store.records, store.records, store.records),
        followers=Followers(coverage, index, queue),
        process=process,
        gate=control,
    )
    sources = PassSources(
        lrps=bbs,
        instances=bbs,
        jobs=store.records,
        bindings=store.records,
        images=store.records,
        journal=store.journal,
        original_sources=store.original_sources,
        records=store.records,
        coverage=coverage,
        event_cache=event_cache,
        mode=mode,
        overrides=control,
    )
    targets = PassTargets(
        lrps=bbs,
        bridges=bbs,
        instances=bbs,
        journal=store.journal,
        original_sources=store.original_sources,
        images=store.records,
        engine=engine,
        verifier=ReadBack(engine, store.records, rules.cache),
        requests=cacher,
        cache=rules.cache,
    )
    reconciler = Reconciler(queue, sources=sources, targets=targets, rules=rules, process=process)
    watcher = Watcher(
        bbs,
        found=Found(queue, index, coverage, cacher, store.records, store.records, event_cache, mode),
        rules=rules,
        process=process,
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
    desk = Desk(
        survey=survey,
        planner=Planner(survey, engine, store.records),
        applier=Applier(survey, control, queue),
        images=Images(store.records, store.journal, bbs, Shelf(engine, rules.cache, cacher)),
        control=control,
        jobs=cacher,
        records=store.records,
        entries=store.operations,
        journal=store.journal,
        breaker=reconciler,
        watching=watcher,
        mode=mode,
        audit=Audit(store.operations, clock=process.clock),
        process=process,
    )
    return Loops(queue, watcher, cacher, reconciler, mode, desk)


def _rules(config: Config, store: Store) -> Rules:
    return Rules(
        policy=config.policy,
        cache=config.cache_repositories,
        domains=frozenset(config.lrp_domains),
        running=config.running_policy,
        limits=PhaseLimits(
            bridge=config.bridge_timeout,
            start=config.start_timeout,
            routes=config.route_propagation_delay,
            cloud_controller_sync=config.cloud_controller_sync_grace,
        ),
        may_bridge=store.journal.is_durable,
        pull_credentials=pull_credentials(config),
        max_in_flight=config.max_in_flight,
        circuit=Circuit(config.max_consecutive_failures, config.circuit_retry_after),
    )


def _mode(config: Config, opened: Opened) -> Reachability | NullMode:
    if config.restore_after is None:
        return NullMode()
    return Reachability(
        opened.engine,
        opened.store.records,
        config.cache_repositories,
        restore_after=config.restore_after,
        process=opened.process,
    )
