"""Builds the process, runs its loops, and takes it apart again on a signal.

Order of need, and so of closing in reverse: metrics, store, BBS client, engine, loops.
On the first signal no replacement is begun any more, those under way get a few seconds,
then the loops are cancelled; a copy in flight goes back into the queue. A second signal
leaves at once.
"""

import asyncio
import signal
import uuid
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import NoReturn, Protocol

import structlog

from controller.bbs.client import BbsClient, open_bbs
from controller.cacher import Cacher, Records
from controller.config import Config, RegistryConfig, TrafficConfig, read_secret
from controller.coverage import Coverage, Followers, LrpIndex
from controller.engines.copy_plan import CopyLimits, Verify
from controller.engines.docker_daemon import DaemonSettings, DockerCopy
from controller.engines.registry_copy import RegistryCopy
from controller.metrics import serve_metrics
from controller.process import Process
from controller.reachability import Forwards, Reachability
from controller.reconciler import Reconciler
from controller.registry.client import Manners, Registries
from controller.registry.platforms import parse_platform
from controller.registry.settings import RegistrySettings, Timeouts
from controller.registry.traffic import Limits
from controller.sightings import Sightings
from controller.store import Store, open_store
from controller.transport import client_tls
from controller.verifier import ReadBack, Reader
from controller.watcher import Found, Watcher
from controller.workqueue import WorkQueue
from reconcile.apply import Targets
from reconcile.circuit import Circuit
from reconcile.lrps import Credentials, ProcessGuid, Secret
from reconcile.observe import Sources
from reconcile.plan import Rules
from reconcile.ports import Engine
from reconcile.steps import Limits as PhaseLimits

log = structlog.get_logger(scope="daemon")

FINISH_WITHIN = 5.0
"""Seconds that open replacements get after a signal; the rest of ten is for cancelled copies."""


class _Engine(Engine, Reader, Protocol):
    async def close(self) -> None:
        """Let go of threads and connections."""


class StopRequested(Exception):
    """A signal asked the process to end."""


class LoopEnded(RuntimeError):
    """A loop that should run for ever returned."""


async def run(config: Config) -> None:
    """Run the daemon until a signal.

    Raises:
        DockerCacheError: It cannot start, with what to do about it.
        ExceptionGroup: A loop ended.
    """
    run_id = str(uuid.uuid4())
    process = Process(run_id)
    log.info("starting", run_id=run_id, bbs_address=config.bbs_address, cache=config.cache_registry.address)
    for warning in config.warnings:
        log.info("warning", detail=warning)
    async with AsyncExitStack() as stack:
        if config.metrics_address is not None:
            stack.enter_context(serve_metrics(process.metrics, config.metrics_address))
        key = None if config.journal_key_file is None else read_secret(config.journal_key_file).encode()
        store = await stack.enter_async_context(
            open_store(config.database_url, journal_key=key, run_id=run_id)
        )
        if not store.journal.is_durable:
            log.error(
                "journal-in-memory-only",
                reason="no journal_key_file" if key is None else "the database itself is in memory",
                detail="a crash in mid-replacement leaves it to Cloud Controller to desire the LRP again",
            )
        tls = client_tls(
            config.bbs_ca_cert_file,
            cert_file=config.bbs_client_cert_file,
            key_file=config.bbs_client_key_file,
        )
        bbs = await stack.enter_async_context(
            open_bbs(config.bbs_address, tls=tls, timeout=config.communication_timeout)
        )
        engine = _engine(config, store)
        stack.push_async_callback(engine.close)
        await _run_loops(config, store=store, bbs=bbs, engine=engine, process=process)
    log.info("stopped")


async def _run_loops(
    config: Config, *, store: Store, bbs: BbsClient, engine: _Engine, process: Process
) -> None:
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    coverage, index = Coverage(), LrpIndex()
    rules = Rules(
        policy=config.policy,
        cache=config.cache_repositories,
        domains=frozenset(config.lrp_domains),
        running=config.running_policy,
        limits=PhaseLimits(
            bridge=config.bridge_timeout,
            settle=config.settle_timeout,
            routes=config.route_settling_delay,
            owner_sync=config.owner_sync_grace,
        ),
        may_bridge=store.journal.is_durable,
        pull_credentials=_pull_credentials(config),
        max_in_flight=config.max_in_flight,
        circuit=Circuit(config.max_consecutive_failures, config.circuit_retry_after),
    )
    sightings = Sightings()
    mode = _mode(config, store, engine, process)
    cacher = Cacher(
        engine,
        records=Records(store.records, store.records, store.records),
        cache=rules.cache,
        followers=Followers(coverage, index, queue),
        process=process,
    )
    reconciler = Reconciler(
        queue,
        sources=Sources(
            lrps=bbs,
            instances=bbs,
            jobs=store.records,
            bindings=store.records,
            images=store.records,
            journal=store.journal,
            origins=store.origins,
            records=store.records,
            coverage=coverage,
            sightings=sightings,
            mode=mode,
        ),
        targets=Targets(
            lrps=bbs,
            bridges=bbs,
            instances=bbs,
            journal=store.journal,
            origins=store.origins,
            images=store.records,
            engine=engine,
            verifier=ReadBack(engine, store.records, rules.cache),
            requests=cacher,
            cache=rules.cache,
        ),
        rules=rules,
        process=process,
    )
    watcher = Watcher(
        bbs,
        found=Found(queue, index, coverage, cacher, store.records, store.records, sightings, mode),
        rules=rules,
        process=process,
        sync_interval=config.sync_interval,
    )
    await cacher.recover()
    await reconciler.recover()
    try:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(_stop_on_signal(reconciler), name="signals")
            loops.create_task(_endless(watcher.run()), name="watcher")
            loops.create_task(_endless(reconciler.keep_bridges_fresh()), name="bridges")
            if isinstance(mode, Reachability):
                loops.create_task(_endless(mode.run()), name="reachability")
            for n in range(config.max_copies):
                loops.create_task(_endless(cacher.run()), name=f"cacher-{n}")
            for n in range(config.workers):
                loops.create_task(_endless(reconciler.run()), name=f"reconciler-{n}")
            log.info("started")
    except* StopRequested:
        log.info("stopping")
    finally:
        queue.close()
        cacher.close()
        watcher.close()
        await reconciler.rescue()


async def _endless(loop: Coroutine[None, None, None]) -> NoReturn:
    await loop
    raise LoopEnded("a loop that should run for ever returned")


async def _stop_on_signal(reconciler: Reconciler) -> NoReturn:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        log.info("signalled", signal=number.name)
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)  # the next one ends the process at once
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGUSR1, reconciler.close_circuit)
    await stop.wait()
    await reconciler.finish_replacements(FINISH_WITHIN)
    raise StopRequested


def _engine(config: Config, store: Store) -> _Engine:
    settings = {each.address: _registry_settings(each, any_address=False) for each in config.registries}
    settings[config.cache_registry.address] = _registry_settings(config.cache_registry, any_address=True)
    registries = Registries(
        settings,
        allowed_networks=config.allowed_source_networks,
        timeouts=Timeouts(
            idle=config.registry_timeout, grace=config.blob_grace, slowest=config.min_bytes_per_second
        ),
        manners=Manners(
            limits=_limits(config.registry_traffic),
            rate_limit_floor=config.rate_limit_floor,
            auth_file=config.registry_auth_file,
            helper_time_limit=config.credential_helper_timeout,
        ),
    )
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


def _mode(config: Config, store: Store, engine: _Engine, process: Process) -> Reachability | Forwards:
    if config.restore_after is None:
        return Forwards()
    return Reachability(
        engine,
        store.records,
        config.cache_repositories,
        restore_after=config.restore_after,
        process=process,
    )


def _pull_credentials(config: Config) -> Credentials | None:
    if config.cache_pull_username is None or config.cache_pull_password_file is None:
        return None
    return Credentials(config.cache_pull_username, Secret(read_secret(config.cache_pull_password_file)))


def _registry_settings(registry: RegistryConfig, *, any_address: bool) -> RegistrySettings:
    credentials = None
    if registry.username is not None and registry.password_file is not None:
        credentials = Credentials(registry.username, Secret(read_secret(registry.password_file)))
    return RegistrySettings(
        plain_http=registry.plain_http,
        ca_file=registry.ca_cert_file,
        client_cert_file=registry.client_cert_file,
        client_key_file=registry.client_key_file,
        credentials=credentials,
        any_address=any_address,
        limits=None if registry.traffic is None else _limits(registry.traffic),
    )


def _limits(traffic: TrafficConfig) -> Limits:
    return Limits(
        connections=traffic.max_connections,
        requests_per_second=traffic.max_requests_per_second,
        bytes_per_second=traffic.max_bytes_per_second,
    )
