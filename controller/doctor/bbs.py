"""Checks the BBS with the calls that the daemon makes: a ping, the cells, both event streams."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from controller.bbs.client import BbsClient, open_bbs
from controller.config import Config
from controller.database_location import location_of
from controller.doctor.findings import Finding, Findings, ok, problem, warning
from controller.doctor.tls import TlsKeys, tls_advice
from controller.store.inspection import find_store_id
from controller.transport import client_tls
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, Unavailable
from reconcile.lrps import Cell
from reconcile.store_markers import StoreId, marked_stores

BBS = "bbs"
CELLS = "cells"
EVENTS = "events"
STORES = "other-stores"

TIMEOUT = 5.0
"""Seconds for one attempt, so that a second one still fits into the time of a check."""

_KEYS = TlsKeys("bbs_address", ca="bbs_ca_cert_file", certificate="bbs_client_cert_file")
_DOCKER = "docker"


@asynccontextmanager
async def open_client(config: Config) -> AsyncIterator[BbsClient]:
    """Open a client of the BBS with the certificates of the config.

    Raises:
        Invalid: One of the files is not in the right format.
    """
    tls = await asyncio.to_thread(
        client_tls,
        config.bbs_ca_cert_file,
        cert_file=config.bbs_client_cert_file,
        key_file=config.bbs_client_key_file,
    )
    timeout = min(config.communication_timeout, TIMEOUT)
    async with open_bbs(config.bbs_address, tls=tls, timeout=timeout) as bbs:
        yield bbs


async def check_bbs(config: Config) -> Findings:
    """Ping the BBS and list its cells."""
    try:
        async with open_client(config) as bbs:
            await bbs.ping()
            yield ok(BBS, f"{config.bbs_address} answers")
            cells = await bbs.list_cells()
            stores = marked_stores(await bbs.list_domains())
    except DockerCacheError as error:
        yield problem(BBS, str(error), bbs_advice(error))
    else:
        yield judge_cells(cells)
        own = await asyncio.to_thread(lambda: find_store_id(location_of(config)))
        for finding in judge_stores(stores, own):
            yield finding


def judge_cells(cells: Sequence[Cell]) -> Finding:
    """Report whether there is a cell that runs Docker images."""
    docker_cells = sum(_DOCKER in cell.rootfs_schemes for cell in cells)
    if not cells:
        advice = "check that the cells' rep runs; no app can be migrated while no cell is registered"
        return warning(CELLS, "no cell is registered", advice)
    if not docker_cells:
        advice = 'let the rep of at least one cell offer the rootfs provider "docker"'
        return problem(CELLS, f"none of {len(cells)} registered cells runs Docker images", advice)
    return ok(CELLS, f"{docker_cells} of {len(cells)} registered cells run Docker images")


def judge_stores(stores: frozenset[StoreId], own: frozenset[StoreId] | None) -> Iterator[Finding]:
    """Report the other stores whose daemons work on the BBS now, or did in the last two minutes.

    Args:
        stores: The stores whose markers in the BBS are fresh.
        own: The id of this daemon's store, empty if it has none yet. None where it is not known: then one of
            `stores` may be this daemon's own.
    """
    others = sorted(stores if own is None else stores - own)
    if len(others) > (own is None):
        text = f"a daemon with another store works on this BBS: {', '.join(others)}"
        advice = (
            "stop it, or let both use one database; until two minutes after its end this daemon stands by"
        )
        yield problem(STORES, text, advice)


async def check_events(config: Config) -> Findings:
    """Subscribe to both event streams, and close them at once."""
    try:
        async with (
            open_client(config) as bbs,
            bbs.subscribe_tasks(),
            bbs.subscribe_lrp_instances(),
        ):
            pass
    except DockerCacheError as error:
        yield problem(EVENTS, str(error), bbs_advice(error))
    else:
        yield ok(EVENTS, f"{config.bbs_address} sends events of tasks and of LRPs")


def bbs_advice(error: DockerCacheError) -> str:
    """Say what to do about a failed call to the BBS."""
    by_tls = tls_advice(error, _KEYS)
    if by_tls is not None:
        return by_tls
    match error:
        case Invalid(system="config"):
            return "correct the file or the address that is named here"
        case Denied():
            return "check bbs_client_cert_file: the BBS must trust it"
        case Unavailable(code=ErrorCode.CONNECTION_FAILED, may_have_happened=True):
            # With TLS 1.3 a refused certificate often shows as a closed connection only.
            return "check bbs_client_cert_file, which the BBS may have refused, and the log of the BBS"
        case Unavailable(code=ErrorCode.CONNECTION_FAILED):
            return "check bbs_address, that a BBS is active there, and that this machine can reach it"
        case Unavailable():
            return "check that a BBS is active and not overloaded: its log says more"
        case _:
            return "check that bbs_address leads to a BBS, of a version that has this call"
