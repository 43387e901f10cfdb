"""Opens what the process needs, runs its loops, and takes it apart again on a signal.

Order of need, and so of closing in reverse: metrics, health checks and admin API as those of a standby, a
connection to the database, the lock, the next term in the database, its schema, what operators decided, the
migrations that are open, the loops. So nothing outside is changed before the lock is held, and the lock is
given back when nothing can be changed any more.

On the first signal no further migration starts, those under way get a few seconds, then the loops are
cancelled; a copy in flight is put back into the queue. A second signal ends the process at once.
"""

import asyncio
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import structlog

from controller.admin.leadership import ServedDependencies
from controller.admin.server import ServerTls, serve_admin
from controller.assembly import DaemonLoops, OpenResources, assemble, open_copy_notes, open_engine
from controller.assembly.leadership import Leadership, open_leadership
from controller.bbs.client import open_bbs
from controller.canary import CanaryLoop
from controller.config import Config, read_secret
from controller.control import OperatorControl
from controller.database_location import location_of
from controller.exposed_files import exposed_files
from controller.health_server import serve_health
from controller.leadership.standing import Standing
from controller.metrics_server import serve_metrics
from controller.open_files import raise_limit
from controller.process import Process
from controller.reachability import Reachability
from controller.reconciler import Reconciler
from controller.recorded_registries import advice_about, others
from controller.store.database import Database, to_the_end
from controller.store.location import Location
from controller.store.opening import Store, check_journal_keys, open_database, open_store
from controller.store.restored import Restored
from controller.store.term import begin_term
from controller.store_marker import StoreMarker
from controller.transport import client_tls_from_files
from controller.wiring import open_canary_images, open_health, open_probe
from reconcile.errors import DockerCacheError, LeaseLost, Unavailable
from reconcile.references import CacheRepositories
from reconcile.steps import PhaseLimits

log = structlog.get_logger(scope="daemon")

FINISH_WITHIN = 5.0
"""Seconds that open migrations get after a signal; platforms give ten, the rest is for cancelled copies."""


CONNECT_PAUSE = 5.0
"""Seconds between two attempts to reach the server of the database."""

END_WITHIN = 10.0
"""Seconds after the loss of the lock at which the process ends, whatever still holds it up: it can change
nothing any more, and is needed as a standby."""

_CONFIRMED_WITHIN = 0.8
"""Share of the lease's margin within which the BBS's host must confirm what it was sent."""


class StopRequested(Exception):
    """The process should end."""


class ReloadRequested(StopRequested):
    """The process should start again with another config."""


class LoopEnded(RuntimeError):
    """A loop that should run forever returned."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One of the instances, active or not."""

    process: Process
    location: Location
    leadership: Leadership
    served: ServedDependencies


async def run(
    config: Config,
    read_config: Callable[[], object],
    *,
    limits: PhaseLimits = PhaseLimits(),  # noqa: B008 - a frozen value
    lock_run_id: str | None = None,
) -> bool:
    """Run the daemon until a signal, and tell whether it is to begin anew: after SIGHUP.

    A process that is to begin anew leaves its lock to the next one, which has the same owner.

    Args:
        config: To run with.
        read_config: Reads the config file again; what it raises keeps the daemon as it is.
        limits: Those of the migration protocol that the config does not say.
        lock_run_id: Of the owner of the lock; None for one of its own.

    Raises:
        LeaseLost: It was the active instance, and is not any more.
        DockerCacheError: The daemon cannot start; the text says what to do about it.
        ExceptionGroup: A loop ended.
    """
    early = _EarlySignals(read_config)
    early.listen()
    try:
        async with (
            _open_instance(config, lock_run_id, serves_health=True) as instance,
            AsyncExitStack() as stack,
        ):
            is_file = instance.location.server is None
            # A file that another process has is refused first: the addresses are in use then, too.
            file = await _connect(instance, stack) if is_file else None
            if config.admin_address is not None:
                admin = serve_admin(instance.served, config.admin_address, _tls(config))
                await stack.enter_async_context(admin)
            database = file or await _connect(instance, stack)
            await _check_keys(config, database)
            await instance.leadership.wait()
            async with instance.leadership.holding(_end_soon):
                should_restart = await _run_active(config, instance, database, limits, read_config)
    except asyncio.CancelledError:
        if early.request is None:
            raise
        log.info("stopped")
        return isinstance(early.request, ReloadRequested)
    log.info("stopped")
    return should_restart


async def _run_active(
    config: Config,
    instance: Instance,
    database: Database,
    limits: PhaseLimits,
    read_config: Callable[[], object],
) -> bool:
    async with _open_resources(config, instance, database, restart=_restart) as opened:
        await opened.control.load(start_paused=config.start_paused)
        loops = assemble(config, opened, limits=limits)
        instance.leadership.standing.reach("")  # what it heeds is all that it waits for
        await opened.store_marker.claim()
        instance.leadership.standing.reach("it takes over")
        await loops.recover()
        await instance.served.open(loops.admin)
        try:
            stop = _stop_on_signal(loops.reconciler, read_config)
            should_restart = await _run_loops(config, loops, stop, instance.leadership.standing)
        finally:
            await instance.served.close()
        if should_restart:
            instance.leadership.keep_for_next()
        elif await _leaves_nothing(opened, instance.leadership):
            await opened.store_marker.end()
        return should_restart


async def _leaves_nothing(opened: OpenResources, leadership: Leadership) -> bool:
    """Whether nobody has to continue what this process began, and no other instance waits to."""
    if leadership.lease.has_end:
        return False
    journal = opened.store.journal
    return not (await journal.list_migrations() or await journal.list_undecryptable())


async def run_standalone(config: Config, work: Callable[[str], Awaitable[None]]) -> None:
    """Do an operator's work where no daemon runs, in a process that starts only what the operator orders.

    Migrations that were started end before this returns, also after a first signal, which cancels the
    work; a second signal ends the process at once.

    Args:
        config: The daemon's config.
        work: Is given the address of the admin API, a socket that no other user can reach.

    Raises:
        Conflict: `store-in-use` or `lock-held`: a daemon is running; `other-store-active`: one with another
            store is.
        CancelledError: A signal ended the work.
    """
    async with _open_instance(config, None, serves_health=False) as instance, AsyncExitStack() as stack:
        opening = open_database(instance.location, run_id=instance.process.run_id)
        database = await stack.enter_async_context(opening)
        await instance.leadership.take()
        async with instance.leadership.holding(_end_soon):
            working = await _work_alone(config, instance, database, work)
    working.result()


async def _work_alone(
    config: Config, instance: Instance, database: Database, work: Callable[[str], Awaitable[None]]
) -> "asyncio.Future[None]":
    async with _open_resources(config, instance, database) as opened:
        await opened.control.load_for_orders_only()
        loops = assemble(config, opened)
        await opened.store_marker.claim_at_once()
        await loops.recover()
        with tempfile.TemporaryDirectory(prefix="docker-cache-") as directory:  # mode 0700
            address = f"unix:{directory}/admin.sock"
            async with serve_admin(instance.served, address, None):
                await instance.served.open(loops.admin)
                working = asyncio.ensure_future(work(address))
                stop = _stop_after(working, loops.reconciler)
                await _run_loops(config, loops, stop, instance.leadership.standing)
        return working


def _restart() -> None:
    """Begin anew, as an operator may ask for with this signal."""
    os.kill(os.getpid(), signal.SIGHUP)


def _end_soon() -> None:
    """End this process with the status of a lost lock, if it does not end by itself soon."""
    ending = threading.Timer(END_WITHIN, os._exit, [1])
    ending.daemon = True
    ending.start()


@asynccontextmanager
async def _open_instance(
    config: Config, lock_run_id: str | None, *, serves_health: bool
) -> AsyncIterator[Instance]:
    """Open what a standby has too."""
    run_id = str(uuid.uuid4())
    process = Process(run_id)
    log.info("starting", run_id=run_id, bbs_address=config.bbs_address, cache=config.cache_registry.address)
    raise_limit(config)
    for warning in config.warnings:
        log.info("config-warning", detail=warning)
    async with AsyncExitStack() as stack:
        if config.metrics_address is not None:
            stack.enter_context(serve_metrics(process.metrics, config.metrics_address))
        location = await asyncio.to_thread(location_of, config)
        opening = open_leadership(config, location, process, run_id=lock_run_id or run_id)
        leadership = await stack.enter_async_context(opening)
        standing = leadership.standing
        if serves_health and config.healthcheck_address is not None:
            stack.enter_context(serve_health(config.healthcheck_address, lambda: standing.position.obstacle))
        yield Instance(process, location, leadership, ServedDependencies(standing, run_id))


async def _connect(instance: Instance, stack: AsyncExitStack) -> Database:
    """Connect to the database; a server that is away is waited for."""
    while True:
        opening = open_database(instance.location, run_id=instance.process.run_id)
        try:
            return await stack.enter_async_context(opening)
        except Unavailable as error:
            if instance.location.server is None:
                raise
            log.info("waiting-for-database", error=str(error))
            instance.leadership.standing.reach(f"it waits for the database: {error}")
            await asyncio.sleep(CONNECT_PAUSE)


async def _check_keys(config: Config, database: Database) -> None:
    """Refuse to stand by with journal keys with which this instance could not take over."""
    with suppress(Unavailable):  # it is looked at once more when it takes over
        await check_journal_keys(database, journal_key=await asyncio.to_thread(_journal_key, config))


def _journal_key(config: Config) -> bytes | None:
    return None if config.journal_key_file is None else read_secret(config.journal_key_file).encode()


@asynccontextmanager
async def _open_resources(
    config: Config, instance: Instance, database: Database, restart: Callable[[], None] | None = None
) -> AsyncIterator[OpenResources]:
    """Take over, and open what only the active instance has."""
    process, lease = instance.process, instance.leadership.lease
    instance.leadership.standing.reach("it takes over")
    async with AsyncExitStack() as stack:
        term = await _begin_term(instance, database)
        process.metrics.leadership_term.set(term)
        log.info("became-active", term=term, owner=instance.leadership.owner)
        key = _journal_key(config)
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
            open_bbs(
                config.bbs_address,
                tls=tls,
                timeout=config.communication_timeout,
                check_active=lease.check,
                unacknowledged=lease.times.margin * _CONFIRMED_WITHIN if lease.has_end else None,
            )
        )
        marker = StoreMarker(bbs, store.store_id, metrics=process.metrics)
        instance.leadership.standing.heed(lambda: marker.obstacle)
        health = open_health(config)
        engine = open_engine(config, store, health, lease)
        stack.push_async_callback(engine.close)
        probe = open_probe(config, health)
        stack.push_async_callback(probe.close)
        canary_images = open_canary_images(config, health)
        if canary_images is not None:
            stack.push_async_callback(canary_images.close)
        notes = open_copy_notes(config, key, health, lease)
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


async def _begin_term(instance: Instance, database: Database) -> int:
    """Become the next active instance of the database.

    What the one before is writing is waited for. Where that stands still, the server ends its transaction
    after some time.
    """
    leadership, now = instance.leadership, instance.process.clock()

    def begin() -> int:
        return begin_term(database, leadership.lease, owner=leadership.owner, now=now).term

    while True:
        try:
            return await to_the_end(asyncio.get_running_loop().run_in_executor(None, begin))
        except LeaseLost:
            raise
        except Unavailable as error:
            if instance.location.server is None:
                raise
            log.info("waiting-for-database", error=str(error))
            await asyncio.sleep(CONNECT_PAUSE)


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
    config: Config,
    running: DaemonLoops,
    until_stopped: Coroutine[None, None, NoReturn],
    standing: Standing,
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
            standing.reach("")
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


class _EarlySignals:
    """What signals ask for before the loops run; then the loops take them.

    A request cancels what this process waits for, such as the lock, or its take-over.

    Attributes:
        request: The one that was made; None for none.
    """

    def __init__(self, read_config: Callable[[], object]) -> None:
        self.request: StopRequested | None = None
        self._read_config = read_config
        self._process: asyncio.Task[object] | None = None
        self._reloading: asyncio.Future[None] | None = None

    def listen(self) -> None:
        """Take signals for the task that calls this."""
        loop, self._process = asyncio.get_running_loop(), asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number, StopRequested())
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        loop.add_signal_handler(signal.SIGUSR1, log.info, "ignored-signal")  # there is no circuit breaker yet

    def _end(self, number: signal.Signals, request: StopRequested) -> None:
        log.info("received-signal", signal=number.name)
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)  # the next one ends the process at once
        self.request = request
        if self._process is not None:
            self._process.cancel()

    def _begin_reload(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        request = await _reload(self._read_config)
        if request is not None and self.request is None:
            self._end(signal.SIGHUP, request)


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
