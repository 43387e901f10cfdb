"""The schema and its revisions, as files have them.

Databases on servers came with the last revisions, so that none there holds rows of an older version. That
their migration gives the declared tables, and survives being killed, is in test_servers, and so is the refusal
of what another program or a newer version has left there.
"""

import asyncio
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from cryptography.fernet import Fernet, MultiFernet
from sqlalchemy import Connection, make_url, text
from sqlalchemy.schema import CreateTable

from controller.store import schema_versions
from controller.store.database import database_in_memory
from controller.store.inspection import check_database, check_schema
from controller.store.journal import SqlJournal
from controller.store.originals import bytes_from_lrp
from controller.store.schema import head, known
from controller.store.schema_upgrade import migrate
from controller.store.tables import metadata
from reconcile.errors import Invalid
from reconcile.migrations import Goal, Phase, Strategy
from reconcile.reasons import Reason
from tests.controller.store.samples import migration
from tests.stores import at, open_store


def schema(connection: Connection) -> set[str]:
    """Give every statement that made a table or an index, the order within it left aside.

    A column that was added later stands behind the constraints, and in the same line as the last of them.
    """
    made = connection.scalars(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))
    ends = re.compile(r",?\s*\n|,\s*(?=\w+ [A-Z])")
    parts = (ends.split(sql.replace('"', "")) for sql in made if "alembic_version" not in sql)
    return {"\n".join(sorted(filter(None, (part.strip(" )\t\n") for part in each)))) for each in parts}


def test_migrating_an_empty_database_gives_the_declared_tables() -> None:
    """Not by alembic's comparison alone, which does not see checks."""
    with closing(database_in_memory()) as migrated, closing(database_in_memory()) as declared:
        migrated.transact(lambda connection: migrate(connection, "memory"))
        declared.transact(metadata.create_all)

        differences = migrated.transact(
            lambda connection: compare_metadata(
                MigrationContext.configure(connection, opts={"compare_type": True}), metadata
            )
        )
        assert differences == []
        assert declared.transact(schema) == migrated.transact(schema)


def test_the_files_of_the_migrations_are_named_for_their_revisions() -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(str(schema_versions.__file__)).parent))
    scripts = ScriptDirectory.from_config(config)

    assert head() == scripts.get_current_head()
    assert known() == {script.revision for script in scripts.walk_revisions()}


def test_migrating_again_changes_nothing() -> None:
    with closing(database_in_memory()) as database:
        database.transact(lambda connection: migrate(connection, "memory"))
        before = database.transact(schema)
        database.transact(lambda connection: migrate(connection, "memory"))

        assert before == database.transact(schema)


def test_a_migration_that_an_older_version_left_open_is_gone_on_with() -> None:
    """It was begun without a bridge, towards the cache, and never saw an instance run."""
    older = migration()
    cipher = MultiFernet([Fernet(Fernet.generate_key())])
    with closing(database_in_memory()) as database:
        database.transact(lambda connection: upgrade(connection, "0001"))
        database.transact(
            lambda connection: connection.execute(
                text(
                    "INSERT INTO migrations (process_guid, cache_guid, phase, original, rounds, run_id, "
                    "started_at, unknown_until) VALUES (:guid, 'a-guid', 'removed', :original, 1, 'r', 5, 0)"
                ),
                {
                    "guid": older.process_guid,
                    "original": cipher.encrypt(bytes_from_lrp(older.original)),
                },
            )
        )
        database.transact(lambda connection: migrate(connection, "memory"))
        found = asyncio.run(SqlJournal(database, cipher).find_migration(older.process_guid))

    assert found is not None
    assert (found.original, found.phase) == (older.original, Phase.REMOVED)
    assert (found.goal, found.strategy, found.ended) == (Goal.CACHE, Strategy.RECREATE, None)
    assert (found.entered_at, found.instance_guids) == (0.0, frozenset())


def test_a_migration_from_before_there_were_ways_back_is_resumed() -> None:
    """Its row knows of no stopgap and of no way back, and had retired and drained nothing."""
    older = replace(migration(), phase=Phase.STARTING, ended=Reason.REVERTED_EXTERNALLY)
    cipher = MultiFernet([Fernet(Fernet.generate_key())])
    with closing(database_in_memory()) as database:
        database.transact(lambda connection: upgrade(connection, "0003"))
        database.transact(
            lambda connection: connection.execute(
                text(
                    "INSERT INTO migrations (process_guid, cache_guid, phase, original, rounds, run_id, "
                    "started_at, unknown_until, goal, strategy, entered_at, ended, instance_guids) VALUES "
                    "(:guid, 'a-guid', 'starting', :original, 1, 'r', 5, 6, 'source', 'bridge', 7, "
                    "'reverted-externally', 'i-1 i-2')"
                ),
                {"guid": older.process_guid, "original": cipher.encrypt(bytes_from_lrp(older.original))},
            )
        )
        database.transact(lambda connection: migrate(connection, "memory"))
        found = asyncio.run(SqlJournal(database, cipher).find_migration(older.process_guid))

    assert found == replace(
        older,
        rounds=1,
        run_id="r",
        started_at=5.0,
        unknown_until=6.0,
        goal=Goal.SOURCE,
        strategy=Strategy.BRIDGE,
        entered_at=7.0,
        instance_guids=frozenset({"i-1", "i-2"}),
    )
    assert (found.is_stopgap, found.way_back, found.detail) == (False, None, "")
    assert (found.retired_at, found.drained_at, found.synced_by) == (0.0, 0.0, 0.0)
    assert (found.drain_sent_at, found.routed_at) == (0.0, 0.0)


def upgrade(connection: Connection, revision: str) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(schema_versions.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def refusal(url: str) -> Invalid:
    """Let both the check and the opening refuse a database, in the same words."""
    with pytest.raises(Invalid) as checked:
        await asyncio.to_thread(at, check_database, url)
    with pytest.raises(Invalid) as opened:
        async with open_store(url, journal_key=None, run_id="r"):
            pass
    assert (checked.value.code, checked.value.detail) == (opened.value.code, opened.value.detail)
    return opened.value


async def refusal_to_read(url: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        await asyncio.to_thread(at, check_schema, url)
    return caught.value


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


async def test_a_newer_database_is_refused(url: str, tmp_path: Path) -> None:
    async with open_store(url, journal_key=None, run_id="r"):
        pass
    execute(tmp_path / "state/store.db", "UPDATE alembic_version SET version_num = '9999'")

    refused = await refusal(url)

    assert refused.code == "schema-newer"
    assert "9999" in refused.detail
    assert (await refusal_to_read(url)).code == "schema-newer"


async def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    execute(path, "CREATE TABLE things (id INTEGER)")

    assert (await refusal(f"sqlite:///{path}")).code == "schema-foreign"
    assert (await refusal_to_read(f"sqlite:///{path}")).code == "schema-missing"


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(b"no database at all, " * 100)

    assert (await refusal(f"sqlite:///{path}")).code == "SQLITE_NOTADB"
    assert (await refusal_to_read(f"sqlite:///{path}")).code == "SQLITE_NOTADB"


async def test_a_table_of_revisions_that_is_another_programs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    execute(path, "CREATE TABLE alembic_version (other INTEGER)")

    assert (await refusal(f"sqlite:///{path}")).code == "SQLITE_ERROR"
    assert (await refusal_to_read(f"sqlite:///{path}")).code == "SQLITE_ERROR"


async def test_a_table_of_revisions_without_a_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    execute(path, "CREATE TABLE alembic_version (version_num TEXT)")

    assert (await refusal(f"sqlite:///{path}")).code == "schema-foreign"
    assert (await refusal_to_read(f"sqlite:///{path}")).code == "schema-missing"


@pytest.mark.parametrize("backend", ["postgresql", "mysql"])
def test_the_tables_can_be_written_for_other_databases(backend: str) -> None:
    """No server is asked: MySQL wants a length for every text in a key, and would cut a bare BLOB at 64 KiB."""
    dialect = make_url(f"{backend}://").get_dialect()()
    written = [str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables]

    assert all(statement.strip().startswith("CREATE TABLE") for statement in written)
