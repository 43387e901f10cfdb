"""What a daemon says of a database that is away, without a server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controller.database_watch import INTERVAL, DatabaseWatch
from controller.process import Process
from controller.store.availability import Availability, Use
from reconcile.errors import DockerCacheError, Invalid, LeaseLost, Unavailable

pytestmark = pytest.mark.looptime

AWAY = Unavailable("store", "connection", "db does not answer")


class Server:
    """A database that is asked, and answers as it is told."""

    name = "db"

    def __init__(self, *, is_shared: bool = True) -> None:
        self.is_shared = is_shared
        self.availability = Availability(lambda: asyncio.get_running_loop().time())
        self.error: DockerCacheError | None = None
        self.asked = 0

    async def probe(self) -> None:
        self.asked += 1
        if self.error is None:
            self.availability.answered(Use.READING)
            return
        if isinstance(self.error, Unavailable) and not isinstance(self.error, LeaseLost):
            self.availability.failed(Use.READING, self.error.detail, asked_at=self.availability.clock())
        raise self.error


@asynccontextmanager
async def watched(server: Server) -> AsyncIterator[DatabaseWatch]:
    watch = DatabaseWatch(server, Process("run", clock=lambda: asyncio.get_running_loop().time()))
    running = asyncio.ensure_future(watch.run())
    yield watch
    assert not running.done()
    running.cancel()


def since(watch: DatabaseWatch) -> float | None:
    return watch._process.metrics.registry.get_sample_value(
        "docker_cache_database_unavailable_since_timestamp_seconds"
    )


async def test_an_outage_is_told_until_the_database_answers(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    async with watched(server) as watch:
        await asyncio.sleep(INTERVAL * 2.5)
        assert (watch.outage, since(watch)) == (None, 0.0)

        server.error = AWAY
        await asyncio.sleep(INTERVAL * 2)
        outage = watch.outage
        assert outage is not None
        assert (outage.error, since(watch)) == (AWAY.detail, outage.since)

        server.error = None
        await asyncio.sleep(INTERVAL)
        assert not watch.outage
        assert since(watch) == 0.0
    said = capsys.readouterr().out
    assert said.count("database.database-unavailable") == said.count("database.database-available") == 1
    assert f'"duration-s": {INTERVAL * 2}' in said


@pytest.mark.parametrize("error", [LeaseLost("stood still"), Invalid("store", "1064", "what is this")])
async def test_an_answer_that_is_an_error_is_no_outage(error: DockerCacheError) -> None:
    server = Server()
    server.error = error
    async with watched(server) as watch:
        await asyncio.sleep(INTERVAL * 2)

        assert watch.outage is None
        assert server.asked > 1


async def test_a_file_is_not_asked() -> None:
    file = Server(is_shared=False)
    file.availability.failed(Use.WRITING, "its disk is full", asked_at=1.0)
    async with watched(file) as watch:
        await asyncio.sleep(INTERVAL * 2)

        assert (file.asked, watch.outage) == (0, None)
