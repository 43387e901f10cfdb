"""What only a server can do to the store: several processes, connections that break, texts compared its way."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from cryptography.fernet import Fernet
from sqlalchemy import Connection, Engine, event, insert, select, text, update

from controller.leadership.ports import Holder, HolderNote
from controller.store import journal_keys, server_engines
from controller.store.database import Database, database_on
from controller.store.location import Location, ServerLocation, location_from_url
from controller.store.lock_row import LockRow
from controller.store.opening import Store, open_database
from controller.store.schema import SchemaState, head
from controller.store.schema_upgrade import migrate
from controller.store.server_inspection import inspect_server
from controller.store.tables import lrps, metadata, settings
from reconcile.errors import Conflict, DockerCacheError, Invalid, Unavailable
from reconcile.records import JobId
from reconcile.references import parse_image_reference
from tests.controller.store.samples import binding, digest, image, job, migration
from tests.controller.store.test_schema import upgrade
from tests.databases import PASSWORD, SECURED, RunningServer, empty_database, run_server
from tests.documents import ROOT, blocks
from tests.simulators.certificates import Authority
from tests.stores import open_store

pytestmark = pytest.mark.usefixtures("servers")

KINDS = ("postgresql", "mysql")
KEY = Fernet.generate_key()


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> RunningServer:
    return run_server(request.param)


@pytest.fixture
def url(server: RunningServer, worker_id: str) -> str:
    """Name a database of this version's schema without a row."""
    return empty_database(server.kind, worker_id)


@pytest.fixture
def new_url(server: RunningServer, worker_id: str) -> Iterator[str]:
    """Name a database without a table."""
    server.create(f"new_{worker_id}")
    yield server.url(f"new_{worker_id}")
    server.drop(f"new_{worker_id}")


def located(url: str) -> ServerLocation:
    found = location_from_url(url).server
    assert found is not None
    return found


@pytest.fixture
def connect(url: str) -> Iterator[Callable[[], Database]]:
    """Give connections to one database, as several processes have them."""
    made: list[Database] = []

    def open_one() -> Database:
        made.append(database_on(located(url)))
        return made[-1]

    open_one().migrate(partial(migrate, name="it"))
    yield open_one
    for database in made:
        database.close()


# Texts


async def test_names_that_differ_in_case_alone_are_two(url: str) -> None:
    """MySQL's own collations take one for the other."""
    async with open_store(url, journal_key=KEY, run_id="r") as store:
        for tag in ("v1", "V1"):
            source = parse_image_reference(f"docker.io/team/app:{tag}")
            asked = replace(binding(f"job-{tag}", task=f"task-{tag}"), source=source)
            await store.records.add_job(replace(job(f"job-{tag}"), source=source), asked)

        upper = parse_image_reference("docker.io/team/app:V1")
        assert [each.job_id for each in await store.records.list_open_jobs(upper)] == ["job-V1"]
        assert await store.records.find_job(JobId("JOB-V1")) is None


async def test_texts_of_every_script_come_back(url: str) -> None:
    async with open_store(url, journal_key=KEY, run_id="r") as store:
        failed = replace(job("job"), failure="größer als 画像 – 🐘")
        await store.records.add_job(failed, binding("job"))

        found = await store.records.find_job(JobId("job"))
    assert found is not None
    assert found.failure == failed.failure


def test_texts_are_ordered_by_their_bytes(connect: Callable[[], Database]) -> None:
    """The server's own order would put "a" before "B"."""
    rows = [
        {
            "process_guid": guid,
            "app_guid": "",
            "rootfs": "",
            "rounds": 0,
            "reason": "",
            "detail": "",
            "updated_at": 0.0,
        }
        for guid in ("a", "B", "é", "Z")
    ]
    database = connect()
    database.transact(lambda connection: connection.execute(insert(lrps), rows))

    ordered = select(lrps.c.process_guid).order_by(lrps.c.process_guid)
    assert database.read_now(lambda connection: list(connection.scalars(ordered))) == ["B", "Z", "a", "é"]


# Several writers


async def test_a_job_is_added_once_by_two_processes(url: str) -> None:
    async with (
        open_store(url, journal_key=KEY, run_id="one") as one,
        open_store(url, journal_key=KEY, run_id="other") as other,
    ):
        added = await asyncio.gather(*(add_same_job(each) for each in (one, other)))

        assert sorted(added) == [False, True]
        assert len(await one.records.list_bindings(JobId("same"))) == 1


async def add_same_job(store: Store) -> bool:
    try:
        await store.records.add_job(job("same"), binding("same"))
    except Conflict as error:
        return error.code != "job-exists"
    return True


def test_what_was_read_holds_until_it_is_written(connect: Callable[[], Database]) -> None:
    """Each writer reads a number and writes the next one, and none is lost."""
    connect().transact(lambda connection: connection.execute(insert(settings), {"name": "n", "value": "0"}))

    def count(database: Database) -> None:
        for _ in range(20):
            database.transact(add_one)

    def add_one(connection: Connection) -> None:
        number = int(connection.scalar(select(settings.c.value).where(settings.c.name == "n")) or "")
        connection.execute(update(settings).where(settings.c.name == "n").values(value=str(number + 1)))

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(count, connect()) for _ in range(3)]:
            done.result()
    found = connect().read_now(lambda connection: connection.scalar(select(settings.c.value)))
    assert found == "60"


def test_three_processes_migrate_at_once(new_url: str) -> None:
    command = [sys.executable, "-m", "tests.controller.store.migrating", new_url, KEY.decode()]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in started:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        said = [each.communicate(timeout=120)[0] for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait()

    assert said == ["opened with 0 images\n"] * 3
    check_schema(new_url)


# Migrations


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_migration_that_is_killed_again_and_again_comes_to_its_end(new_url: str) -> None:
    """After each third change of the schema; MySQL keeps those that were made, PostgreSQL none."""
    limit = 3 if new_url.startswith("mysql") else 20
    attempts = 0
    while not migrates(new_url, dies_after=limit):
        attempts += 1
        limit += 0 if new_url.startswith("mysql") else 20

    assert attempts > 1
    check_schema(new_url)


def migrates(url: str, *, dies_after: int) -> bool:
    """Migrate a database until some changes are made; tell whether it came to its end before."""
    left = dies_after

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal left
        if not statement.lstrip().upper().startswith(("SELECT", "SHOW", "DESCRIBE", "SET")):
            left -= 1
            if left < 0:
                raise Killed

    with closing(database_on(located(url))) as database:
        event.listen(Engine, "after_cursor_execute", count)
        try:
            database.migrate(partial(migrate, name="it"))
        except Killed:
            return False
        finally:
            event.remove(Engine, "after_cursor_execute", count)
    return True


def check_schema(url: str) -> None:
    """Compare the tables with the declared ones."""

    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    with closing(database_on(located(url))) as database:
        assert database.read_now(compare) == []


async def test_a_database_of_another_program_is_refused(new_url: str, server: RunningServer) -> None:
    server.execute("CREATE TABLE things (id INTEGER)", database=located(new_url).database)

    with pytest.raises(Invalid) as refused:
        async with open_store(new_url, journal_key=KEY, run_id="r"):
            pass
    assert refused.value.code == "schema-foreign"


async def test_a_newer_database_is_refused(url: str, server: RunningServer) -> None:
    async with open_store(url, journal_key=KEY, run_id="r"):
        pass
    database, head = located(url).database, "SELECT version_num FROM alembic_version"
    ((before,),) = server.execute(head, database=database)
    server.execute("UPDATE alembic_version SET version_num = '9999'", database=database)
    try:
        with pytest.raises(Invalid) as refused:
            async with open_store(url, journal_key=KEY, run_id="r"):
                pass
    finally:
        server.execute(f"UPDATE alembic_version SET version_num = '{before}'", database=database)
    assert refused.value.code == "schema-newer"


async def test_a_journal_in_memory_is_refused(url: str) -> None:
    """Another instance could not resume what it holds."""
    with pytest.raises(Invalid) as refused:
        async with open_store(url, journal_key=None, run_id="r"):
            pass
    assert "journal_key_file" in refused.value.detail


async def test_an_instance_that_stands_by_changes_nothing(new_url: str) -> None:
    """It may be of a newer version than the active one."""
    await asyncio.to_thread(upgrade_to, new_url, "0003")
    async with open_database(Location(server=located(new_url)), run_id="newer"):
        pass
    assert (await asyncio.to_thread(inspect_server, located(new_url))).schema.revision == "0003"

    async with open_store(new_url, journal_key=KEY, run_id="newer"):
        pass
    assert (await asyncio.to_thread(inspect_server, located(new_url))).schema.revision == head()


def upgrade_to(url: str, revision: str) -> None:
    with closing(database_on(located(url))) as database:
        database.migrate(partial(upgrade, revision=revision))


# A server that is away


def end_connections(server: RunningServer, database: str) -> None:
    if server.kind == "postgresql":
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        return
    found = "SELECT id FROM information_schema.processlist WHERE db = '%s'"
    for (number,) in server.execute(found % database):
        with suppress(Exception):  # it may have ended by itself
            server.execute(f"KILL {number}")


async def test_connections_that_break_between_two_calls_are_not_noticed(
    url: str, server: RunningServer
) -> None:
    async with open_store(url, journal_key=KEY, run_id="r") as store:
        await store.records.add_job(job("job"), binding("job"))
        await asyncio.to_thread(end_connections, server, located(url).database)

        assert len(await store.records.list_open_jobs()) == 1
        await store.records.add_job(job("other"), binding("other", task="other"))


def test_what_breaks_in_a_transaction_is_for_later_and_leaves_nothing(
    connect: Callable[[], Database], server: RunningServer, url: str
) -> None:
    database = connect()

    def write_and_lose(connection: Connection) -> None:
        connection.execute(insert(settings), {"name": "n", "value": "1"})
        end_connections(server, located(url).database)
        connection.execute(insert(settings), {"name": "m", "value": "1"})

    with pytest.raises(Unavailable):
        database.transact(write_and_lose)

    count = text("SELECT count(*) FROM settings")
    assert database.read_now(lambda connection: connection.scalar(count)) == 0
    database.transact(lambda connection: connection.execute(insert(settings), {"name": "n", "value": "1"}))


def test_why_postgresql_ends_a_connection_is_told(worker_id: str) -> None:
    ending = text("SELECT pg_terminate_backend(pg_backend_pid())")
    with (
        closing(database_on(located(empty_database("postgresql", worker_id)))) as database,
        pytest.raises(Unavailable) as raised,
    ):
        database.read_now(lambda connection: connection.scalar(ending))

    assert (raised.value.code, "no answer" in raised.value.detail) == ("57P01", False)


def test_a_process_that_stands_still_in_a_transaction_keeps_nobody_waiting(
    connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_engines, "_SILENT_AT_MOST", 1)
    standing, other = connect(), connect()
    has_turn, may_go_on = threading.Event(), threading.Event()

    def stand_still(connection: Connection) -> None:
        connection.execute(insert(settings), {"name": "n", "value": "1"})
        has_turn.set()
        may_go_on.wait()

    with ThreadPoolExecutor(1) as thread:
        stood = thread.submit(standing.transact, stand_still)
        has_turn.wait()
        try:
            other.transact(
                lambda connection: connection.execute(insert(settings), {"name": "n", "value": "2"})
            )
        finally:
            may_go_on.set()
        assert isinstance(stood.exception(), Unavailable)
    found = other.read_now(lambda connection: connection.scalar(select(settings.c.value)))
    assert found == "2"


def test_a_process_that_stands_still_keeps_nobody_waiting_on_mysql_either(
    worker_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL has no limit for transactions; MariaDB without its own one is asked instead."""
    monkeypatch.setattr(server_engines, "_SILENT_AT_MOST", 1)
    monkeypatch.setattr(server_engines, "_is_mariadb", lambda _: False)
    location = located(empty_database("mysql", worker_id))
    idle = text("SELECT @@SESSION.wait_timeout")
    has_turn, may_go_on = threading.Event(), threading.Event()

    def stand_still(connection: Connection) -> None:
        connection.execute(text("SET SESSION idle_transaction_timeout = 0"))
        has_turn.set()
        may_go_on.wait()
        connection.execute(text("SELECT 1"))

    with (
        closing(database_on(location)) as standing,
        closing(database_on(location)) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        stood = thread.submit(standing.transact, stand_still)
        has_turn.wait()
        try:
            assert other.transact(lambda connection: connection.scalar(idle)) == 1
        finally:
            may_go_on.set()
        assert isinstance(stood.exception(), Unavailable)
        assert other.transact_unfenced(lambda connection: connection.scalar(idle)) == 60


def test_a_server_that_stands_still_is_for_later(worker_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel still takes what it is sent."""
    monkeypatch.setattr(server_engines, "_SILENT_AT_MOST", 1)
    monkeypatch.setattr(server_engines, "_STATEMENT_WITHIN", 0)
    monkeypatch.setattr(server_engines, "LOCK_WITHIN", 0)
    stopped = 0

    def stop_and_ask(connection: Connection) -> None:
        nonlocal stopped
        stopped = int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)
        os.kill(stopped, signal.SIGSTOP)
        connection.scalar(text("SELECT 1"))

    with closing(database_on(located(empty_database("postgresql", worker_id)))) as database:
        try:
            with pytest.raises(Unavailable):
                database.read_now(stop_and_ask)
            assert database.read_now(lambda connection: connection.scalar(text("SELECT 1"))) == 1
        finally:
            os.kill(stopped, signal.SIGCONT)


async def test_a_server_that_does_not_answer_is_for_later(server: RunningServer) -> None:
    with pytest.raises(Unavailable) as refused:
        async with open_store(f"{server.kind}://u:hunter2@127.0.0.1:1/store", journal_key=KEY, run_id="r"):
            pass
    assert "hunter2" not in str(refused.value)


def test_only_reading_transactions_cannot_write(connect: Callable[[], Database]) -> None:
    with pytest.raises(DockerCacheError):
        connect().read_now(
            lambda connection: connection.execute(insert(settings), {"name": "n", "value": "1"})
        )


# The login


def secured(server: RunningServer, **changed: Any) -> ServerLocation:
    location = location_from_url(
        server.url("postgres" if server.kind == "postgresql" else "mysql", user=SECURED, host="localhost"),
        password=PASSWORD,
        ca_cert_file=Path(server.ca),
    ).server
    assert location is not None
    return replace(location, **changed)


def ask(location: ServerLocation) -> object:
    with closing(database_on(location)) as database:
        return database.read_now(lambda connection: connection.scalar(text("SELECT 1")))


def test_a_verified_server_gets_the_password_that_its_file_has_now(
    server: RunningServer, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("another\n")
    location = secured(server, password_file=file)
    with pytest.raises(Unavailable) as refused:
        ask(location)
    assert PASSWORD not in str(refused.value)

    file.write_text(f"{PASSWORD}\n")
    assert ask(location) == 1


def test_a_server_of_another_authority_or_name_gets_no_password(
    server: RunningServer, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path).certificate
    changes: list[dict[str, Any]] = [{"ca_cert_file": foreign}, {"host": "127.0.0.1"}]
    for changed in changes:
        with pytest.raises(Unavailable) as refused:
            ask(secured(server, **changed))
        assert "certificate" in str(refused.value).lower()


def test_a_missing_password_file_is_said(server: RunningServer, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        ask(secured(server, password_file=tmp_path / "password"))
    assert "database_password_file" in str(refused.value)


# What doctor looks at


async def test_a_server_is_inspected_beside_an_instance(url: str, server: RunningServer) -> None:
    location = located(url)
    async with open_store(url, journal_key=KEY, run_id="r") as store:
        guid = await store.records.reserve_guid(digest(1))
        await store.records.keep_image(image(guid, platform=digest(1)), ())
        await store.journal.save_migration(migration())
        seen = await asyncio.to_thread(inspect_server, location, Fernet.generate_key() + b"\n" + KEY)

    assert seen.version.startswith("PostgreSQL 1" if server.kind == "postgresql" else "MariaDB 10.")
    assert seen.schema.revision == head()
    assert seen.registries == {"registry.internal:5000": 1}
    assert seen.key_uses is not None
    assert seen.key_uses.by_place[0] == 0
    assert seen.key_uses.by_place[1] > 0
    assert seen.store_ids == {store.store_id}
    assert not seen.is_durable, "the tests' servers write nothing to the disk"
    assert abs(seen.clock_ahead) < 30
    assert seen.used_keys == journal_keys.fingerprints(KEY)
    assert seen.used_keys[0] == seen.own_keys[1]


async def test_the_holder_of_the_lock_is_inspected(url: str) -> None:
    location, note = located(url), HolderNote("first", "run-1", "db.example:8910", 100.0, "1")
    assert (await asyncio.to_thread(inspect_server, location)).holder is None
    with closing(database_on(location)) as database:
        row = LockRow(database, ttl=15.0)
        await row.acquire(note)
        held = (await asyncio.to_thread(inspect_server, location)).holder
        await row.release()
        row.close()

    assert held == Holder(note.owner, note)
    assert (await asyncio.to_thread(inspect_server, location)).holder is None


def test_an_empty_database_is_inspected_too(new_url: str) -> None:
    seen = inspect_server(located(new_url), KEY)

    assert (seen.schema, seen.registries, seen.key_uses) == (SchemaState(None), {}, None)


# Backups


async def test_what_the_documentation_runs_after_a_restore_pauses_and_drops_migrations(
    url: str, server: RunningServer
) -> None:
    page = ROOT / "docs" / "pages" / "how-to" / "database-server.md"
    (restored,) = [block.text for block in blocks(page) if block.language == "sql" and "paused" in block.text]
    async with open_store(url, journal_key=KEY, run_id="r") as store:
        guid = await store.records.reserve_guid(digest(1))
        statements = [each.strip() for each in restored.split(";") if each.strip()]
        await asyncio.to_thread(partial(server.execute, *statements, database=located(url).database))

        assert await store.operations.find_paused() is True
        assert await store.journal.list_migrations() == ()
        assert await store.records.find_guid(digest(1)) == guid
