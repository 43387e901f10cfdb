import random
import signal
import sqlite3
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

from controller.store import cached_images
from controller.store.database import database_at
from controller.store.opening import Store
from reconcile.lrps import ProcessGuid
from reconcile.records import JobId, JobState
from reconcile.references import parse_digest
from tests.controller.store.reserving import CONTENTS
from tests.controller.store.samples import digest
from tests.stores import open_store

pytestmark = pytest.mark.usefixtures("servers")

ROOT = Path(__file__).parents[3]


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
async def path(url: str, tmp_path: Path) -> Path:
    async with open_store(url, journal_key=None, run_id="r"):
        return tmp_path / "state/store.db"


def test_two_processes_that_reserve_at_once_get_the_same_guids(path: Path) -> None:
    with process("reserving", str(path)) as one, process("reserving", str(path)) as other:
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


def test_two_threads_that_reserve_at_once_get_the_same_guids(path: Path) -> None:
    """Each with a connection of its own, as two processes would."""

    def reserve_all() -> list[str]:
        with closing(database_at(path)) as database:
            return [
                database.transact(partial(cached_images.reserve, platform_digest=digest(number)))
                for number in range(CONTENTS)
            ]

    with ThreadPoolExecutor(2) as threads:
        one, other = (threads.submit(reserve_all) for _ in range(2))
        assert one.result() == other.result()


def check_invariants(path: Path) -> None:
    """Look at the tables themselves, beside what the store would show."""
    with closing(sqlite3.connect(path)) as connection:

        def count(rest: str) -> int:
            return int(connection.execute(f"SELECT count(*) FROM {rest}").fetchone()[0])

        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert count("jobs WHERE job_id NOT IN (SELECT job_id FROM bindings)") == 0
        cached = "SELECT cache_guid FROM jobs WHERE state = 'cached'"
        assert count(f"({cached}) WHERE cache_guid NOT IN (SELECT cache_guid FROM images)") == 0
        assert count(f"images WHERE cache_guid NOT IN ({cached})") == 0
        assert count("images WHERE cache_guid NOT IN (SELECT cache_guid FROM blobs)") == 0


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


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_store_survives_being_killed_at_any_statement(url: str, tmp_path: Path, seed: int) -> None:
    """Seven times the same store, from the middle of its first migration on; what was said to be saved is."""
    random_source = random.Random(seed)
    key = Fernet.generate_key()
    lines: list[str] = []
    for dies_at in [random_source.randrange(1, 40), *(random_source.randrange(20, 200) for _ in range(6))]:
        with process("killed_writer", url, key.decode(), str(seed), str(dies_at)) as writer:
            lines += writer.communicate(timeout=120)[0].splitlines()
        assert writer.returncode == -signal.SIGKILL

        async with open_store(url, journal_key=key, run_id="test") as store:
            check_invariants(tmp_path / "state/store.db")
            await check_acknowledged(store, lines)
            assert await store.journal.list_undecryptable() == ()

    assert len(lines) > 7, "something was saved before each end"
