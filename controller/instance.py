"""Opens what a standby has too: metrics, health checks, its part in the election, and the database."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from controller.admin.leadership import ServedDependencies
from controller.assembly.leadership import Leadership, open_leadership
from controller.bounded_server import ServerTls
from controller.certificate_ends import CertificateEnds
from controller.certificate_files import certificate_files
from controller.config import Config, read_secret
from controller.config_reloads import ConfigReloads, no_reloads
from controller.database_location import location_of
from controller.debug_server import serve_debug
from controller.health_server import HealthAnswers, serve_health
from controller.log_level import LogLevel
from controller.loop_lag import LoopLag
from controller.metrics.instance import SelfCheck
from controller.metrics_server import serve_metrics
from controller.open_files import raise_limit
from controller.process import Process
from controller.self_checks import SelfChecks
from controller.store.database import Database
from controller.store.location import Location
from controller.store.opening import check_standby, open_database
from controller.transport import server_tls
from reconcile.errors import LeaseLost, Unavailable

log = structlog.get_logger(scope="daemon")

T = TypeVar("T")

TAKING_OVER = "it takes over"
"""What an instance does from when it holds the lock until its loops run."""

CONNECT_PAUSE = 5.0
"""Seconds between two attempts to reach the server of the database."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One of the instances, active or not."""

    process: Process
    location: Location
    leadership: Leadership
    served: ServedDependencies
    checks: SelfChecks
    certificates: CertificateEnds


@asynccontextmanager
async def open_instance(
    config: Config, lock_run_id: str | None, *, reloads: ConfigReloads | None, log_level: LogLevel
) -> AsyncIterator[Instance]:
    """Open what a standby has too.

    Args:
        config: To run with.
        lock_run_id: Of the owner of the lock; None for one of its own.
        reloads: Of the config; None for a process that serves no health checks.
        log_level: Of the log lines.
    """
    run_id = str(uuid.uuid4())
    process = Process(run_id, log_level=log_level, reloads=reloads or no_reloads())
    log.info("starting", run_id=run_id, bbs_address=config.bbs_address, cache=config.cache_registry.address)
    raise_limit(config)
    for warning in config.warnings:
        log.info("found-doubtful-setting", detail=warning)
    lag = LoopLag()
    checks = SelfChecks(process.metrics.instance, lag)
    certificates = CertificateEnds(certificate_files(config), process=process)
    async with AsyncExitStack() as stack:
        stack.enter_context(lag.measuring())
        if config.debug_address is not None:
            loop = asyncio.get_running_loop()
            stack.enter_context(serve_debug(config.debug_address, log_level, loop))
            log.info("serving", what="debug server", address=config.debug_address)
        if config.metrics_address is not None:
            tls = await asyncio.to_thread(_metrics_tls, config)
            stack.enter_context(serve_metrics(process.metrics, config.metrics_address, tls))
            log.info("serving", what="metrics", address=config.metrics_address)
        location = await asyncio.to_thread(location_of, config)
        opening = open_leadership(config, location, process, run_id=lock_run_id or run_id)
        leadership = await stack.enter_async_context(opening)
        standing = leadership.standing
        process.metrics.instance.show_reloads(process.reloads)
        checks.add(SelfCheck.LEADERSHIP, lambda: leadership.problem)
        checks.add(SelfCheck.CERTIFICATES, lambda: certificates.problem)
        checks.add(SelfCheck.CONFIG, lambda: process.reloads.error)
        stack.enter_context(checks.looking())
        if reloads is not None and config.healthcheck_address is not None:
            answers = HealthAnswers(lambda: standing.position.obstacle, lambda: checks.unwell)
            stack.enter_context(serve_health(config.healthcheck_address, answers))
            log.info("serving", what="health checks", address=config.healthcheck_address)
        served = ServedDependencies(standing, run_id, log_level=log_level)
        yield Instance(process, location, leadership, served, checks, certificates)


@asynccontextmanager
async def beside(loop: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run a loop as long as the block lasts; one that ends early is only logged."""
    running = asyncio.ensure_future(loop)
    try:
        yield
    finally:
        running.cancel()
        (ended,) = await asyncio.gather(running, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            log.error("loop-ended", error=str(ended))


def _metrics_tls(config: Config) -> ServerTls | None:
    ca, cert = config.metrics_ca_cert_file, config.metrics_server_cert_file
    key = config.metrics_server_key_file
    if ca is None or cert is None or key is None:
        return None
    return server_tls(ca, cert_file=cert, key_file=key)


async def connect(instance: Instance, stack: AsyncExitStack) -> Database:
    """Connect to the database; a server that is away is waited for."""

    def open_once() -> Awaitable[Database]:
        return stack.enter_async_context(open_database(instance.location, run_id=instance.process.run_id))

    database = await until_answered(instance, open_once, stage="it is starting")
    database.of_errors.append(instance.process.metrics.instance.count_store_error)
    return database


async def until_answered(instance: Instance, ask: Callable[[], Awaitable[T]], *, stage: str) -> T:
    """Ask the database until it answers; a file that cannot be used is not waited for.

    Args:
        instance: Which says meanwhile what it waits for.
        ask: Makes one attempt.
        stage: What the instance does with the answer.
    """
    standing = instance.leadership.standing
    while True:
        standing.reach(stage)
        try:
            answer = await ask()
        except LeaseLost:
            raise
        except Unavailable as error:
            if instance.location.server is None:
                raise
            log.info("waiting-for-database", error=str(error))
            standing.reach(f"it waits for the database: {error}")
            instance.checks.report_problem(SelfCheck.DATABASE, str(error))
            await asyncio.sleep(CONNECT_PAUSE)
        else:
            instance.checks.report_problem(SelfCheck.DATABASE, "")
            return answer


async def check_takeover(config: Config, database: Database) -> None:
    """Refuse to stand by with a version or with journal keys with which this instance could not take over."""
    with suppress(Unavailable):  # it is looked at once more when it takes over
        await check_standby(database, journal_key=await asyncio.to_thread(read_journal_key, config))


def read_journal_key(config: Config) -> bytes | None:
    """Read the keys of the journal; None where it is kept in memory."""
    return None if config.journal_key_file is None else read_secret(config.journal_key_file).encode()
