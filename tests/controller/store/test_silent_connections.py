"""Connections to a server that nothing is heard on any more, as a proxy leaves them whose server is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Connection, select, text

from controller.store import server_engines
from controller.store.availability import Use
from controller.store.database import Database, database_on
from controller.store.location import location_from_url
from reconcile.errors import Unavailable
from tests import databases
from tests.simulators.tcp_proxy import TcpProxy

FOUND_WITHIN = 40.0
"""Seconds that only a failure meets; less than a statement and its wait for a lock may take."""


def write(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE IF NOT EXISTS written (number INTEGER)"))


@asynccontextmanager
async def reached_by_proxy(kind: str, worker: str) -> AsyncIterator[tuple[Database, TcpProxy]]:
    """Connect to a worker's database over a network that can be cut."""
    url = await asyncio.to_thread(databases.empty_database, kind, worker)
    before, _, name = url.rpartition("/")
    server, _, port = before.rpartition(":")
    async with TcpProxy("127.0.0.1", int(port)) as proxy:
        location = location_from_url(f"{server}:{proxy.address.rpartition(':')[2]}/{name}")
        assert location.server is not None
        database = database_on(location.server)
        try:
            yield database, proxy
        finally:
            await asyncio.to_thread(database.close)


@pytest.mark.slow
@pytest.mark.starts_servers
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_a_connection_that_went_silent_is_replaced_before_a_statement_would_be_given_up(
    kind: str, worker_id: str
) -> None:
    async with reached_by_proxy(kind, worker_id) as (database, proxy):
        await asyncio.to_thread(database.transact_unfenced, write)
        proxy.cut()
        proxy.mend()
        async with asyncio.timeout(FOUND_WITHIN):
            await asyncio.to_thread(database.transact_unfenced, write)


@pytest.mark.starts_servers
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_what_waits_for_a_silent_server_ends_when_somebody_has_found_that_out(
    kind: str, worker_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_engines, "PING_WITHIN", 1)
    monkeypatch.setattr(server_engines, "_CONNECT_WITHIN", 1)
    loop, is_begun = asyncio.get_running_loop(), asyncio.Event()
    may_go_on = asyncio.Event()

    def read_twice(connection: Connection) -> None:
        connection.scalar(select(1))
        loop.call_soon_threadsafe(is_begun.set)
        asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result()
        connection.scalar(select(1))

    async with reached_by_proxy(kind, worker_id) as (database, proxy):
        await database.probe()
        reading = asyncio.ensure_future(database.read(read_twice))
        await is_begun.wait()
        proxy.cut()
        may_go_on.set()
        async with asyncio.timeout(FOUND_WITHIN):
            with pytest.raises(Unavailable):
                await database.probe()
            with pytest.raises(Unavailable):
                await reading
        assert database.availability.outage is not None

        proxy.mend()
        await database.probe()
        assert database.availability.outage is None


@pytest.mark.starts_servers
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_a_database_that_could_not_write_is_asked_whether_it_can_again(
    kind: str, worker_id: str
) -> None:
    async with reached_by_proxy(kind, worker_id) as (database, proxy):
        proxy.refuse()
        with pytest.raises(Unavailable):
            await database.write(write)
        assert database.availability.is_away(Use.WRITING)

        proxy.mend()
        await database.probe()
        assert database.availability.outage is None
