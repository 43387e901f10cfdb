"""Who is told of what the database does not do: it alone counts, and neither the lock nor what was asked for."""

import asyncio

import pytest
from sqlalchemy import Connection, text

from controller.store.database import database_in_memory
from reconcile.errors import DockerCacheError, Invalid, NotFound


def missing_table(connection: Connection) -> None:
    connection.execute(text("SELECT * FROM nowhere"))


def missing_row(_: Connection) -> None:
    raise NotFound("store", "no-such-job", "there is no such job")


async def test_only_what_the_database_refuses_is_told() -> None:
    database, reported = database_in_memory(), list[DockerCacheError]()
    database.of_errors.append(reported.append)
    try:
        for work, error in ((missing_row, NotFound), (missing_table, Invalid)):
            with pytest.raises(error):
                await database.read(work)
            with pytest.raises(error):
                await database.write(work)
            with pytest.raises(error):
                await asyncio.to_thread(database.transact_unfenced, work)
    finally:
        await asyncio.to_thread(database.close)

    assert [each.code for each in reported] == ["SQLITE_ERROR"] * 2
