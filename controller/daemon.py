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
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import NoReturn

import structlog

from controller.admin.server import ServerTls, serve_admin
from controller.assembly import DaemonLoops, OpenResources, assemble
from controller.assembly.leadership import Leadership
from controller.assembly.self_checks import add_checks
from controller.config import Config
from controller.config_reloads import ConfigReloads
from controller.instance import (
    TAKING_OVER,
    Instance,
    beside,
    check_takeover,
    connect,
    open_instance,
    until_answered,
)
from controller.last_resort import HELD_UP, LOST_LOCK, limit_ending
from controller.leadership.standing import Standing
from controller.log_level import LogLevel
from controller.opening import open_resources
from controller.signals import EarlySignals, ReloadRequested, StopRequested, stop_after, stop_on_signal
from controller.store.database import Database
from controller.store.opening import open_database
from reconcile.errors import DockerCacheError, LeaseLost
from reconcile.steps import PhaseLimits

log = structlog.get_logger(scope="daemon")

MARK_WITHIN = 1.0
"""Seconds in which the BBS may be told at the end that this process has left nothing undone."""

FLUSH_WITHIN = 1.0
"""Seconds in which the last lines for the logs of apps are sent at the end."""


class LoopEnded(RuntimeError):
    """A loop that should run forever returned."""


async def run(
    config: Config,
    read_config: Callable[[], object],
    *,
    limits: PhaseLimits = PhaseLimits(),  # noqa: B008 - a frozen value
    lock_run_id: str | None = None,
    log_level: LogLevel | None = None,
) -> bool:
    """Run the daemon until a signal, and tell whether it is to begin anew: after SIGHUP.

    A process that is to begin anew leaves its lock to the next one, which has the same owner.

    Args:
        config: To run with.
        read_config: Reads the config file again; what it raises keeps the daemon as it is.
        limits: Those of the migration protocol that the config does not say.
        lock_run_id: Of the owner of the lock; None for one of its own.
        log_level: Of the log lines, as operators may change it; None where nobody can.

    Raises:
        LeaseLost: It was the active instance, and is not any more.
        DockerCacheError: The daemon cannot start; the text says what to do about it.
        ExceptionGroup: A loop ended.
    """
    reloads = ConfigReloads(read_config)
    early = EarlySignals(reloads.read, partial(limit_ending, HELD_UP))
    early.listen()
    try:
        async with (
            open_instance(
                config, lock_run_id, reloads=reloads, log_level=log_level or LogLevel(config.log_level)
            ) as instance,
            AsyncExitStack() as stack,
        ):
            try:
                should_restart = await _run_instance(config, instance, stack, limits, early)
            except BaseException as error:
                # Whatever ends it: what was opened may be slow to close.
                limit_ending(LOST_LOCK if isinstance(error, LeaseLost) else HELD_UP)
                raise
    except asyncio.CancelledError:
        if early.request is None:
            raise
        log.info("stopped")
        return isinstance(early.request, ReloadRequested)
    except LeaseLost:  # whoever noticed it has said so
        raise
    except DockerCacheError as error:
        limit_ending(HELD_UP)  # before the log, which nobody may read
        log.fatal("failed-to-run", error=str(error))
        raise
    log.info("stopped")
    return should_restart


async def _run_instance(
    config: Config, instance: Instance, stack: AsyncExitStack, limits: PhaseLimits, early: EarlySignals
) -> bool:
    """Wait for the lock, and do the work; tell whether the process is to begin anew."""
    is_file = instance.location.server is None
    # A file that another process has is refused first: the addresses are in use then, too.
    file = await connect(instance, stack) if is_file else None
    if config.admin_address is not None:
        admin = serve_admin(instance.served, config.admin_address, _tls(config))
        await stack.enter_async_context(admin)
    database = file or await connect(instance, stack)
    await check_takeover(config, database)
    async with beside(instance.certificates.run()):
        await instance.leadership.wait()
    async with instance.leadership.holding(partial(limit_ending, LOST_LOCK)):
        return await _run_active(config, instance, database, limits, early)


async def _run_active(
    config: Config,
    instance: Instance,
    database: Database,
    limits: PhaseLimits,
    early: EarlySignals,
) -> bool:
    async with open_resources(config, instance, database, restart=_restart) as opened:
        answered = partial(until_answered, instance, stage=TAKING_OVER)
        await answered(partial(opened.control.load, start_paused=config.start_paused))
        loops = assemble(config, opened, limits=limits)
        add_checks(instance.checks, opened, loops, config.sync_interval)
        instance.leadership.standing.reach("")  # what it heeds is all that it waits for
        await opened.store_marker.claim()
        instance.leadership.standing.reach(TAKING_OVER)
        await loops.recover(answered)
        await instance.served.open(loops.admin)
        try:
            stop = stop_on_signal(loops.reconciler, early)
            should_restart = await _run_loops(config, loops, stop, instance.leadership.standing)
        finally:
            await instance.served.close()
        if should_restart:
            instance.leadership.keep_for_next()
        elif await _leaves_nothing(opened, instance.leadership):
            with suppress(TimeoutError):  # it expires by itself
                async with asyncio.timeout(MARK_WITHIN):
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
    async with (
        open_instance(config, None, reloads=None, log_level=LogLevel("error")) as instance,
        AsyncExitStack() as stack,
    ):
        opening = open_database(instance.location, run_id=instance.process.run_id)
        database = await stack.enter_async_context(opening)
        await instance.leadership.take()
        async with instance.leadership.holding(partial(limit_ending, LOST_LOCK)):
            working = await _work_alone(config, instance, database, work)
    working.result()


async def _work_alone(
    config: Config, instance: Instance, database: Database, work: Callable[[str], Awaitable[None]]
) -> "asyncio.Future[None]":
    async with open_resources(config, instance, database) as opened:
        await opened.control.load_for_orders_only()
        loops = assemble(config, opened)
        await opened.store_marker.claim_at_once()
        await loops.recover()
        with tempfile.TemporaryDirectory(prefix="docker-cache-") as directory:  # mode 0700
            address = f"unix:{directory}/admin.sock"
            async with serve_admin(instance.served, address, None):
                await instance.served.open(loops.admin)
                working = asyncio.ensure_future(work(address))
                stop = stop_after(working, loops.reconciler)
                await _run_loops(config, loops, stop, instance.leadership.standing)
        return working


def _restart() -> None:
    """Begin anew, as an operator may ask for with this signal."""
    os.kill(os.getpid(), signal.SIGHUP)


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
            loops.create_task(_run_forever(running.database_watch.run()), name="database")
            loops.create_task(_run_forever(running.store_counts.run()), name="store-counts")
            loops.create_task(_run_forever(running.presence.run()), name="presence")
            loops.create_task(_run_forever(running.unknown_copies.run()), name="unknown-copies")
            loops.create_task(_run_forever(running.health.run()), name="health")
            for name, loop in running.optional_loops():
                loops.create_task(_run_forever(loop), name=name)
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
        log.info("loops-ended")
        running.close()
        await reconciler.desire_removed_lrps()
        with suppress(DockerCacheError):  # the log has said why the store takes nothing
            await running.failures.save()
        if running.app_logs is not None:
            await running.app_logs.flush(FLUSH_WITHIN)
    return should_restart


async def _run_forever(loop: Coroutine[None, None, None]) -> NoReturn:
    """Run a loop whose end is a fault of this program, and ends the process."""
    try:
        await loop
    except Exception as error:
        is_of_lock = _is_of_lock(error)
        # The other loops end first, and a log that nobody reads may hold up the next line.
        limit_ending(LOST_LOCK if is_of_lock else HELD_UP)
        if not is_of_lock:
            task = asyncio.current_task()
            log.exception("loop-failed", loop="" if task is None else task.get_name())
        raise
    limit_ending(HELD_UP)
    raise LoopEnded("a loop that should run forever returned")


def _is_of_lock(error: Exception) -> bool:
    """Whether an error says that the lock is lost, and nothing else; whoever noticed it has said so."""
    if isinstance(error, ExceptionGroup):
        _, others = error.split(LeaseLost)
        return others is None
    return isinstance(error, LeaseLost)


def _tls(config: Config) -> ServerTls | None:
    files = (config.admin_ca_cert_file, config.admin_server_cert_file, config.admin_server_key_file)
    ca, cert, key = files
    if config.admin_without_tls or ca is None or cert is None or key is None:
        return None
    return ServerTls(ca, cert, key)
