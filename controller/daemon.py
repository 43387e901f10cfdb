"""Opens what the process needs, runs its loops, and takes it apart again on a signal.

Order of need, and so of closing in reverse: metrics, store, BBS client, engine, admin API, loops.
On the first signal no further migration starts, those under way get a few seconds, then the loops are
cancelled; a copy in flight is put back into the queue. A second signal ends the process at once.
"""

import asyncio
import os
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NoReturn

import structlog

from controller.admin.server import ServerTls, serve_admin
from controller.assembly import DaemonLoops, OpenResources, assemble, open_copy_notes, open_engine
from controller.bbs.client import open_bbs
from controller.canary import CanaryLoop
from controller.config import Config, read_secret
from controller.control import OperatorControl
from controller.exposed_files import exposed_files
from controller.metrics_server import serve_metrics
from controller.open_files import raise_limit
from controller.process import Process
from controller.reachability import Reachability
from controller.reconciler import Reconciler
from controller.recorded_registries import advice_about, others
from controller.store.location import location_from_url
from controller.store.opening import Store, open_database, open_store
from controller.store.restored import Restored
from controller.store_marker import StoreMarker
from controller.transport import client_tls_from_files
from controller.wiring import open_canary_images, open_health, open_probe
from reconcile.errors import DockerCacheError
from reconcile.references import CacheRepositories
from reconcile.steps import PhaseLimits

log = structlog.get_logger(scope="daemon")

FINISH_WITHIN = 5.0
"""Seconds that open migrations get after a signal; platforms give ten, the rest is for cancelled copies."""


class StopRequested(Exception):
    """The process should end."""


class ReloadRequested(StopRequested):
    """The process should start again with another config."""


class LoopEnded(RuntimeError):
    """A loop that should run forever returned."""


async def run(
    config: Config,
    read_config: Callable[[], object],
    *,
    limits: PhaseLimits = PhaseLimits(),  # noqa: B008 - a frozen value
) -> bool:
    """Run the daemon until a signal, and tell whether it is to begin anew: after SIGHUP.

    Args:
        config: To run with.
        read_config: Reads the config file again; what it raises keeps the daemon as it is.
        limits: Those of the migration protocol that the config does not say.

    Raises:
        DockerCacheError: The daemon cannot start; the text says what to do about it.
        ExceptionGroup: A loop ended.
    """
    async with _open_resources(config, restart=_restart) as opened:
        await opened.control.load(start_paused=config.start_paused)
        loops = assemble(config, opened, limits=limits)
        await opened.store_marker.claim()
        await loops.recover()
        async with AsyncExitStack() as stack:
            if config.admin_address is not None:
                await stack.enter_async_context(serve_admin(loops.admin, config.admin_address, _tls(config)))
            stop = _stop_on_signal(loops.reconciler, read_config)
            should_restart = await _run_loops(config, loops, stop)
    log.info("stopped")
    return should_restart


async def run_standalone(config: Config, work: Callable[[str], Awaitable[None]]) -> None:
    """Do an operator's work where no daemon runs, in a process that starts only what the operator orders.

    Migrations that were started end before this returns, also after a first signal, which cancels the
    work; a second signal ends the process at once.

    Args:
        config: The daemon's config.
        work: Is given the address of the admin API, a socket that no other user can reach.

    Raises:
        Conflict: `store-in-use`: a daemon is running; `other-store-active`: one with another store is.
        CancelledError: A signal ended the work.
    """
    async with _open_resources(config) as opened:
        await opened.control.load_for_orders_only()
        loops = assemble(config, opened)
        await opened.store_marker.claim_at_once()
        await loops.recover()
        with tempfile.TemporaryDirectory(prefix="docker-cache-") as directory:  # mode 0700
            address = f"unix:{directory}/admin.sock"
            async with serve_admin(loops.admin, address, None):
                working = asyncio.ensure_future(work(address))
                await _run_loops(config, loops, _stop_after(working, loops.reconciler))
    working.result()


def _restart() -> None:
    """Begin anew, as an operator may ask for with this signal."""
    os.kill(os.getpid(), signal.SIGHUP)


@asynccontextmanager
async def _open_resources(
    config: Config, restart: Callable[[], None] | None = None
) -> AsyncIterator[OpenResources]:
    run_id = str(uuid.uuid4())
    process = Process(run_id)
    log.info("starting", run_id=run_id, bbs_address=config.bbs_address, cache=config.cache_registry.address)
    raise_limit(config)
    for warning in config.warnings:
        log.info("config-warning", detail=warning)
    async with AsyncExitStack() as stack:
        if config.metrics_address is not None:
            stack.enter_context(serve_metrics(process.metrics, config.metrics_address))
        key = None if config.journal_key_file is None else read_secret(config.journal_key_file).encode()
        location = await asyncio.to_thread(location_from_url, config.database_url)
        database = await stack.enter_async_context(open_database(location, run_id=run_id))
        store = await open_store(database, journal_key=key)
        for exposed in await asyncio.to_thread(exposed_files, config):
            log.error("file-open-to-others", detail=str(exposed), advice=exposed.advice)
        if store.restored is not None:
            _report_restored(store.restored)
        if store.sealing.has_older_keys:
            await _seal_anew(store)
        await store.records.use_registry(config.cache_registry.address)
        store.content_proofs.use_platforms(config.platforms)
        await _warn_of_other_registries(store, config.cache_repositories)
        if not store.journal.is_durable:
            log.error(
                "journal-in-memory-only",
                reason="no journal_key_file" if key is None else "the database itself is in memory",
                detail="after a crash in mid-migration only Cloud Controller can desire the LRP again",
            )
        tls = await asyncio.to_thread(
            client_tls_from_files,
            config.bbs_ca_cert_file,
            cert_file=config.bbs_client_cert_file,
            key_file=config.bbs_client_key_file,
        )
        bbs = await stack.enter_async_context(
            open_bbs(config.bbs_address, tls=tls, timeout=config.communication_timeout)
        )
        marker = StoreMarker(bbs, store.store_id, metrics=process.metrics)
        health = open_health(config)
        engine = open_engine(config, store, health)
        stack.push_async_callback(engine.close)
        probe = open_probe(config, health)
        stack.push_async_callback(probe.close)
        canary_images = open_canary_images(config, health)
        if canary_images is not None:
            stack.push_async_callback(canary_images.close)
        notes = open_copy_notes(config, key, health)
        stack.push_async_callback(notes.close)
        control = OperatorControl(store.operations)
        yield OpenResources(
            store,
            bbs.checked_by(marker.check),
            engine,
            canary_images,
            notes,
            process,
            control,
            health,
            probe,
            marker,
            restart,
        )


async def _seal_anew(store: Store) -> None:
    """Seal with the first journal key what an older one has sealed, so that the older one can be removed."""
    sealed = await store.sealing.seal_anew()
    if sealed.renewed:
        log.info("sealed-anew", values=sealed.values, renewed=sealed.renewed)
    if sealed.unreadable:
        log.error("sealed-by-unknown-key", values=sealed.values, unreadable=sealed.unreadable)


def _report_restored(restored: Restored) -> None:
    """Log that a backup is in place, and which migrations it knew that are none any more."""
    log.info(
        "restored-backup",
        replaced=None if restored.replaced is None else str(restored.replaced),
        resumed_lrps=list(restored.resumed),
        detail="the daemon is paused: run `rebuild`, look at `reconcile`, then `resume`",
    )
    if restored.dropped or restored.problem:
        log.error(
            "dropped-migrations-of-backup",
            process_guids=list(restored.dropped),
            error=restored.problem or None,
        )


async def _run_loops(
    config: Config, running: DaemonLoops, until_stopped: Coroutine[None, None, NoReturn]
) -> bool:
    """Run the loops until a stop is requested, and tell whether the process should start again."""
    should_restart = False
    watcher, cacher, reconciler = running.watcher, running.cacher, running.reconciler
    try:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(until_stopped, name="signals")
            loops.create_task(_run_forever(watcher.run()), name="watcher")
            loops.create_task(_run_forever(reconciler.keep_bridges_fresh()), name="bridges")
            loops.create_task(_run_forever(running.failures.run()), name="failures")
            loops.create_task(_run_forever(running.unused.run()), name="unused-copies")
            loops.create_task(_run_forever(running.pull_login.run()), name="pull-login")
            loops.create_task(_run_forever(running.certificates.run()), name="certificates")
            loops.create_task(_run_forever(running.uploads.run()), name="abandoned-uploads")
            loops.create_task(_run_forever(running.retention.run()), name="retention")
            loops.create_task(_run_forever(running.store_marker.run()), name="store-marker")
            loops.create_task(_run_forever(running.presence.run()), name="presence")
            if isinstance(running.cells, CanaryLoop):
                loops.create_task(_run_forever(running.cells.run()), name="canary")
            if running.note_writer is not None:
                loops.create_task(_run_forever(running.note_writer.run()), name="notes")
            loops.create_task(_run_forever(running.unknown_copies.run()), name="unknown-copies")
            loops.create_task(_run_forever(running.health.run()), name="health")
            if isinstance(running.mode, Reachability):
                loops.create_task(_run_forever(running.mode.run()), name="reachability")
            for n in range(cacher.slots):
                loops.create_task(_run_forever(cacher.run()), name=f"cacher-{n}")
            for n in range(config.workers):
                loops.create_task(_run_forever(reconciler.run()), name=f"reconciler-{n}")
            await asyncio.sleep(0)  # from now on it takes signals
            log.info("started")
    except* ReloadRequested:
        should_restart = True
        log.info("stopping", reason="restart with another config")
    except* StopRequested:
        log.info("stopping")
    finally:
        running.close()
        await reconciler.desire_removed_lrps()
        with suppress(DockerCacheError):  # the log has said why the store takes nothing
            await running.failures.save()
    return should_restart


async def _run_forever(loop: Coroutine[None, None, None]) -> NoReturn:
    await loop
    raise LoopEnded("a loop that should run forever returned")


async def _stop_on_signal(reconciler: Reconciler, read_config: Callable[[], object]) -> NoReturn:
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[signal.Signals]()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    loop.add_signal_handler(signal.SIGUSR1, reconciler.gate.reset_circuit_breaker)
    request: StopRequested | None = None
    while request is None:
        number = await signals.get()
        log.info("received-signal", signal=number.name)
        request = await _reload(read_config) if number is signal.SIGHUP else StopRequested()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)  # the next one ends the process at once
    await reconciler.gate.finish_migrations(FINISH_WITHIN)
    raise request


async def _reload(read_config: Callable[[], object]) -> ReloadRequested | None:
    """Read the config again; None when it cannot be used, and the daemon stays as it is."""
    try:
        await asyncio.to_thread(read_config)
    except DockerCacheError as error:
        log.error("failed-to-reload-config", error=str(error))  # noqa: TRY400 - the message says all
        return None
    return ReloadRequested()


async def _stop_after(work: asyncio.Future[None], reconciler: Reconciler) -> NoReturn:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # SIGHUP when the terminal is gone
    for number in signals:
        loop.add_signal_handler(number, work.cancel)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    await asyncio.wait([work])
    for number in signals[:2]:
        loop.remove_signal_handler(number)  # the next one ends the process at once
    await reconciler.gate.finish_migrations(None)
    raise StopRequested


async def _warn_of_other_registries(store: Store, cache: CacheRepositories) -> None:
    """Log each private registry that records name and the config does not, and what to do about it."""
    stored = await store.records.measure_images()
    for address in others(stored, cache):
        detail = advice_about(address, stored[address][0], cache)
        log.error("registry-not-configured", registry=address, detail=detail)


def _tls(config: Config) -> ServerTls | None:
    files = (config.admin_ca_cert_file, config.admin_server_cert_file, config.admin_server_key_file)
    ca, cert, key = files
    if config.admin_without_tls or ca is None or cert is None or key is None:
        return None
    return ServerTls(ca, cert, key)
