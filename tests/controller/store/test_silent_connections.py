"""Connections to a server that nothing is heard on any more, as a proxy leaves them whose server is gone."""

import asyncio

import pytest
from sqlalchemy import Connection, text

from controller.store.database import database_on
from controller.store.location import location_from_url
from tests import databases
from tests.simulators.locket import Way

FOUND_WITHIN = 40.0
"""Seconds that only a failure meets; less than a statement and its wait for a lock may take."""


def write(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE IF NOT EXISTS written (number INTEGER)"))


@pytest.mark.slow
@pytest.mark.starts_servers
async def test_a_connection_that_went_silent_is_replaced_before_a_statement_would_be_given_up(
    worker_id: str,
) -> None:
    url = await asyncio.to_thread(databases.empty_database, "postgresql", worker_id)
    before, _, database = url.rpartition("/")
    server, _, port = before.rpartition(":")
    async with Way("127.0.0.1", int(port)) as way:
        location = location_from_url(f"{server}:{way.address.rpartition(':')[2]}/{database}")
        assert location.server is not None
        opened = database_on(location.server)
        try:
            await asyncio.to_thread(opened.transact_unfenced, write)
            way.cut()
            way.mend()
            async with asyncio.timeout(FOUND_WITHIN):
                await asyncio.to_thread(opened.transact_unfenced, write)
        finally:
            opened.close()
