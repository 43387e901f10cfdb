"""Opens what the active instance needs: its term in the database, the store, and clients of all systems."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from controller.assembly import OpenResources, open_copy_notes, open_engine
from controller.bbs.client import open_bbs
from controller.capi_opening import open_cloud_controller
from controller.config import Config, LoggregatorConfig
from controller.control import OperatorControl
from controller.counted_requests import CountedRequests
from controller.database_watch import DatabaseWatch
from controller.exposed_files import exposed_files
from controller.health import ProbeObserver
from controller.instance import TAKING_OVER, Instance, read_journal_key, until_answered
from controller.loggregator import AgentClient, Component, open_agent
from controller.mutual_tls import MutualTls
from controller.recorded_registries import advice_about, others
from controller.shielding import to_the_end
from controller.store.database import Database
from controller.store.opening import Store, open_store
from controller.store.restored import Restored
from controller.store.term import begin_term
from controller.store_marker import StoreMarker
from controller.transport import client_tls_from_files
from controller.wiring import open_canary_images, open_health, open_probe, source_registries
from reconcile.references import CacheRepositories

log = structlog.get_logger(scope="daemon")


@asynccontextmanager
async def open_resources(
    config: Config, instance: Instance, database: Database, restart: Callable[[], None] | None = None
) -> AsyncIterator[OpenResources]:
    """Take over, and open what only the active instance has."""
    process, lease = instance.process, instance.leadership.lease
    async with AsyncExitStack() as stack:
        term = await _begin_term(instance, database)
        process.metrics.instance.leadership_term.set(term)
        process.metrics.became_active()
        process.metrics.registries.configure(config.cache_registry.address, source_registries(config))
        log.info("became-active", term=term, owner=instance.leadership.owner)
        key = read_journal_key(config)
        store = await until_answered(instance, lambda: _open_store(config, database, key), stage=TAKING_OVER)
        for exposed in await asyncio.to_thread(exposed_files, config):
            log.error("found-exposed-file", detail=str(exposed), advice=exposed.advice)
        if store.restored is not None:
            _report_restored(store.restored)
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
                unacknowledged=lease.confirmed_within,
            )
        )
        marker = StoreMarker(bbs, store.store_id, metrics=process.metrics)
        instance.leadership.standing.add_obstacle(lambda: marker.obstacle)
        health = open_health(config)
        observer = CountedRequests(health, process.metrics.registries)
        engine = open_engine(config, store, observer, lease)
        stack.push_async_callback(engine.close)
        probe = open_probe(config, CountedRequests(ProbeObserver(health), process.metrics.registries))
        stack.push_async_callback(probe.close)
        canary_images = open_canary_images(config, observer)
        if canary_images is not None:
            stack.push_async_callback(canary_images.close)
        notes = open_copy_notes(config, key, observer, lease)
        stack.push_async_callback(notes.close)
        control = OperatorControl(store.operations)
        yield OpenResources(
            store=store,
            bbs=bbs.checked_by(marker.check),
            engine=engine,
            canary_images=canary_images,
            notes=notes,
            process=process,
            control=control,
            health=health,
            probe=probe,
            store_marker=marker,
            database_watch=DatabaseWatch(database, process),
            certificates=instance.certificates,
            cloud_controller=await stack.enter_async_context(
                open_cloud_controller(config, lease=lease, process=process)
            ),
            loggregator=await _open_loggregator(config.loggregator, stack),
            restart=restart,
        )


async def _open_loggregator(config: LoggregatorConfig, stack: AsyncExitStack) -> AgentClient | None:
    """Open the agent of this machine, which need not be there; None where it is told nothing."""
    ca, cert, key = config.loggregator_ca_path, config.loggregator_cert_path, config.loggregator_key_path
    if not config.loggregator_use_v2_api or ca is None or cert is None or key is None:
        return None
    component = Component(
        config.loggregator_job_origin, config.loggregator_source_id, config.loggregator_instance_id
    )
    return await stack.enter_async_context(open_agent(config.address, MutualTls(ca, cert, key), component))


async def _open_store(config: Config, database: Database, journal_key: bytes | None) -> Store:
    """Open the records of a database, and do with them what each start does; it may be done again."""
    store = await open_store(database, journal_key=journal_key)
    if store.sealing.has_older_keys:
        await _seal_anew(store)
    await store.records.use_registry(config.cache_registry.address)
    store.content_proofs.use_platforms(config.platforms)
    await _warn_of_other_registries(store, config.cache_repositories)
    return store


async def _begin_term(instance: Instance, database: Database) -> int:
    """Become the next active instance of the database.

    What the one before is writing is waited for. Where that stands still, the server ends its transaction
    after some time.
    """
    leadership, now = instance.leadership, instance.process.clock()

    def begin() -> int:
        return begin_term(database, leadership.lease, owner=leadership.owner, now=now).term

    def ask() -> Awaitable[int]:
        return to_the_end(asyncio.get_running_loop().run_in_executor(None, begin))

    return await until_answered(instance, ask, stage=TAKING_OVER)


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


async def _warn_of_other_registries(store: Store, cache: CacheRepositories) -> None:
    """Log each private registry that records name and the config does not, and what to do about it."""
    stored = await store.records.measure_images()
    for address in others(stored, cache):
        detail = advice_about(address, stored[address][0], cache)
        log.error("registry-not-configured", registry=address, detail=detail)
