"""Processes of their own on one store, which write at the same time, or are killed while they do."""

import asyncio
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, text

from controller.store import cached_images
from controller.store.opening import Store
from reconcile.lrps import ProcessGuid
from reconcile.records import JobId, JobState
from reconcile.references import parse_digest
from tests.controller.store.reserving import CONTENTS
from tests.controller.store.samples import digest
from tests.databases import run_server
from tests.stores import connect_beside, open_store

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("servers")]

ROOT = Path(__file__).parents[3]
KEY = Fernet.generate_key()


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"tests.controller.store.{module}", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
async def shared_url(kept_url: str) -> str:
    """Name a database of this version's schema, which each process opens by itself."""
    async with open_store(kept_url, journal_key=KEY, run_id="r"):
        return kept_url


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path, worker_id: str) -> Iterator[str]:
    """Name a database without a table."""
    if request.param == "file":
        yield f"sqlite:///{tmp_path}/state/store.db"
        return
    server, name = run_server(request.param), f"killed_{worker_id}"
    server.create(name)
    yield server.url(name)
    server.drop(name)


def test_two_processes_that_reserve_at_once_get_the_same_guids(shared_url: str) -> None:
    with process("reserving", shared_url) as one, process("reserving", shared_url) as other:
        for started in (one, other):
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
        for started in (one, other):
            assert started.stdin is not None
            started.stdin.write("go\n")
            started.stdin.flush()
        guids = [started.communicate(timeout=120)[0].split() for started in (one, other)]

    assert guids[0] == guids[1]
    assert len(set(guids[0])) == CONTENTS


def test_two_threads_that_reserve_at_once_get_the_same_guids(shared_url: str) -> None:
    """Each with a connection of its own, as two processes would."""

    def reserve_all() -> list[str]:
        with closing(connect_beside(shared_url)) as database:
            return [
                database.transact(partial(cached_images.reserve, platform_digest=digest(number)))
                for number in range(CONTENTS)
            ]

    with ThreadPoolExecutor(2) as threads:
        one, other = (threads.submit(reserve_all) for _ in range(2))
        assert one.result() == other.result()


def check_invariants(url: str) -> None:
    """Look at the tables themselves, beside what the store would show."""

    def look(connection: Connection) -> None:
        def count(rest: str) -> int:
            return int(connection.scalar(text(f"SELECT count(*) FROM {rest}")) or 0)

        if connection.dialect.name == "sqlite":  # servers refuse what refers to nothing when it is written
            assert connection.execute(text("PRAGMA integrity_check")).fetchall() == [("ok",)]
            assert connection.execute(text("PRAGMA foreign_key_check")).fetchall() == []
        assert count("jobs WHERE job_id NOT IN (SELECT job_id FROM bindings)") == 0
        cached = "SELECT cache_guid FROM jobs WHERE state = 'cached'"
        without_copy = f"({cached}) AS cached WHERE cache_guid NOT IN (SELECT cache_guid FROM images)"
        assert count(without_copy) == 0
        assert count(f"images WHERE cache_guid NOT IN ({cached})") == 0
        assert count("images WHERE cache_guid NOT IN (SELECT cache_guid FROM blobs)") == 0

    with closing(connect_beside(url)) as database:
        database.read_now(look)


async def check_acknowledged(store: Store, lines: list[str]) -> None:
    said = defaultdict(list)
    for line in lines:
        kind, *rest = line.split()
        said[kind].append(rest)
    cached = {name for (name,) in said["cached"]}
    for (name,) in said["job"]:
        found = await store.records.find_job(JobId(name))
        assert found is not None
        assert await store.records.find_binding(f"task:{name}") is not None
        assert name not in cached or found.state is JobState.CACHED
    for content, guid in said["guid"]:
        assert guid == await store.records.reserve_guid(parse_digest(content))
    for (name,) in said["migration"]:
        assert await store.journal.find_migration(ProcessGuid(name)) is not None


@pytest.mark.parametrize(
    ("new_url", "seed", "times"),
    [
        ("file", 1, 7),
        ("file", 2, 7),
        ("postgresql", 1, 3),
        ("mysql", 1, 3),
        *(pytest.param(kind, 2, 14, marks=pytest.mark.long) for kind in ("file", "postgresql", "mysql")),
    ],
    indirect=["new_url"],
)
async def test_a_store_survives_being_killed_at_any_statement(new_url: str, seed: int, times: int) -> None:
    """The same store again and again, from its first migration on; what was said to be saved is."""
    random_source = random.Random(seed)
    key = Fernet.generate_key()
    lines: list[str] = []
    later = (random_source.randrange(20, 200) for _ in range(times - 1))
    for dies_at in [random_source.randrange(1, 40), *later]:
        with process("killed_writer", new_url, key.decode(), str(seed), str(dies_at)) as writer:
            lines += writer.communicate(timeout=120)[0].splitlines()
        assert writer.returncode == -signal.SIGKILL

        async with open_store(new_url, journal_key=key, run_id="test") as store:
            await asyncio.to_thread(check_invariants, new_url)
            await check_acknowledged(store, lines)
            assert await store.journal.list_undecryptable() == ()

    assert len(lines) > times, "something was saved before each end"
