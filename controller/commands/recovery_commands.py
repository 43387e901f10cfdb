"""The commands for what is stored: backup, restore-backup, rebuild, seal-anew."""

import asyncio
import time
import uuid
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller import __version__
from controller.admin.admin_client import AdminClient
from controller.commands.options import (
    config_option,
    direct_option,
    listing_options,
    output_option,
    yes_option,
)
from controller.commands.output import Output
from controller.commands.sessions import Target, call
from controller.commands.tables import Column, Row
from controller.commands.words import format_count, format_size
from reconcile.errors import DockerCacheError, Invalid, Unavailable

if TYPE_CHECKING:
    from controller.config import Config

RESTART_WITHIN = 60.0
"""Seconds in which a daemon begins anew: it first lets migrations under way come to a safe point."""

_LOOK_AGAIN = 0.5

_NEXT = "the daemon is paused: run `rebuild`, look at `reconcile`, then `resume`"

_SERVER_PAGE = '"Use a database server" in the documentation'

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@config_option
@output_option
@_file
def backup(*, config_path: Path, output: Output, file: Path) -> None:
    """Save a backup of the database to FILE.

    It may be made at any time, also while the daemon works, on the daemon's machine. FILE is readable by this
    user alone, and is never overwritten. The key of `journal_key_file` is not in it: keep that elsewhere.

    \b
    Example:
      diego-docker-cache backup /var/vcap/store/docker_cache/backup.db
    """
    from controller.store.backup import BackupMarks, back_up

    config, database = _database(config_path)
    made = back_up(database, file, BackupMarks(config.cache_registry.address, time.time(), __version__))
    row = {
        "file": str(file.absolute()),
        "bytes": made.bytes,
        "schema": made.schema,
        "images": made.images,
        "migrations": made.migrations,
    }
    if output.is_json:
        output.json_lines([row])
    images, migrations = format_count(made.images, "images"), format_count(made.migrations, "migrations")
    output.say(f"saved {row['file']}: {format_size(made.bytes)}, {images}, {migrations} under way")


@click.command("restore-backup")
@config_option
@click.option(
    "--direct", "is_direct", is_flag=True, help="Work without a running daemon; refused while one runs."
)
@output_option
@yes_option
@_file
def restore_backup(*, config_path: Path, is_direct: bool, output: Output, is_sure: bool, file: Path) -> None:
    """Replace the database with a backup.

    A backup that is corrupt, of a newer version, of another program, or about another private registry is
    refused before anything is changed. The replaced database is kept beside the new one. Migrations under
    way are resumed as the replaced database knows them; those that only the backup knows are dropped, and
    named in the log.

    A running daemon restarts on the backup, and is paused: what was copied and migrated after the backup is
    not known until `rebuild` has found it.

    \b
    Examples:
      diego-docker-cache restore-backup /var/backups/cache.db
      diego-docker-cache restore-backup --direct --yes /var/backups/cache.db
    """
    if not file.exists():
        raise Invalid("store", "backup-path", f"{file} is not there")
    if not is_sure:
        click.confirm(f"Replace the database by {file}?", abort=True, err=True)
    row = (
        _restore_directly(config_path, file)
        if is_direct
        else call(Target(config_path), lambda client: _restore(client, file))
    )
    if output.is_json:
        output.json_lines([row])
    if row["replaced"]:
        output.say(f"the database was replaced, and is kept as {row['replaced']}")
    else:
        output.say("the backup is in place; there was no database before")
    if row["dropped_process_guids"]:
        dropped = ", ".join(row["dropped_process_guids"])
        output.say(f"migrations that only the backup knows were dropped: {dropped}")
    if row["problem"]:
        output.say(f"the replaced database could not be read: {row['problem']}")
    output.say(_NEXT if not is_direct else f"start the daemon; {_NEXT}")


async def _restore(client: AdminClient, file: Path) -> Row:
    """Let the daemon restart on a backup, and wait until it answers again."""
    before = await client.status()
    answer = await client.restore_backup(file)
    begun = time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_AGAIN)
        try:
            now = await client.status()
            if now["run_id"] != before["run_id"] and not now["obstacle"]:
                return {"replaced": answer["replaced"], "dropped_process_guids": [], "problem": ""}
        except Unavailable:
            pass  # it is on its way
        if time.monotonic() - begun > RESTART_WITHIN:
            raise Unavailable(
                "admin",
                "not-restarted",
                f"the daemon has not restarted within {RESTART_WITHIN:.0f} s: see its log; when it starts, "
                f"the backup takes its place, and the database is kept as {answer['replaced']}",
            )


def _restore_directly(config_path: Path, file: Path) -> Row:
    from controller.store.location import prepare_directory
    from controller.store.lock import hold_lock
    from controller.store.restoring import complete_restore, prepare_restore

    config, database = _database(config_path)
    prepare_directory(database)
    with hold_lock(database, run_id=str(uuid.uuid4())):
        replaced = prepare_restore(
            file, database, stamp=uuid.uuid4().hex[:12], registries=config.private_registries
        )
        restored = complete_restore(database)
    if restored is None:
        raise AssertionError(f"{replaced} was prepared")
    return {
        "replaced": str(restored.replaced or ""),
        "dropped_process_guids": list(restored.dropped),
        "problem": restored.problem,
    }


def _database(config_path: Path) -> "tuple[Config, Path]":
    from controller.config import load_config
    from controller.database_location import location_of
    from controller.store.location import Server

    config = load_config(config_path)
    location = location_of(config)
    if location.server is not None:
        tool = "pg_dump" if location.server.server is Server.POSTGRESQL else "mysqldump or mariadb-dump"
        detail = f"{location.name} is on a server: back it up and restore it with {tool}, see {_SERVER_PAGE}"
        raise Invalid("store", "database-on-server", detail)
    if location.path is None:
        raise Invalid("store", "database-in-memory", "database_url names no file")
    return config, location.path


REBUILD_COLUMNS = (
    Column("cache-guid", lambda row: row["cache_guid"]),
    Column("status", lambda row: row["status"], is_state=True),
    Column("source", lambda row: row["source"], priority=1),
    Column("lrps", lambda row: str(len(row["process_guids"])), priority=2, is_number=True),
    Column("detail", lambda row: row["detail"], priority=1, is_prose=True),
)


@click.command()
@config_option
@direct_option
@listing_options(REBUILD_COLUMNS)
@click.option(
    "--accept-unsealed", is_flag=True, help="Believe notes that no key of journal_key_file confirms."
)
def rebuild(*, config_path: Path, is_direct: bool, output: Output, accept_unsealed: bool) -> None:
    """Adopt copies and apps that the database does not know.

    For each copy that an app runs from, or that the private registry lists, the note beside it says what it
    was copied from. What the database knows is not changed. A login for a source is in no note, so apps whose
    source may need one cannot be restored until they are pushed again.

    A copy without a note is "reserved": the next staging of its image finds it. The exit status is 0 when
    nothing stays unknown, and 5 otherwise.

    \b
    Example:
      diego-docker-cache rebuild
    """

    async def work(client: AdminClient) -> list[Row]:
        rows = list[Row]()
        async with aclosing(client.rebuild(accept_unsealed=accept_unsealed)) as rebuilt:
            async for row in rebuilt:
                rows.append(row)
                if output.is_json:
                    output.json_lines([row])
        return rows

    rows = call(Target(config_path, is_direct), work)
    if not output.is_json:
        output.listing(rows, REBUILD_COLUMNS, what="copies")
    left = sum(row["status"] != "adopted" for row in rows)
    if left:
        verb = "stays" if left == 1 else "stay"
        detail = f"{left} of {format_count(len(rows), 'copies')} {verb} unknown"
        raise DockerCacheError("store", "copies-unknown", detail)


@click.command("seal-anew")
@config_option
@output_option
def seal_anew(*, config_path: Path, output: Output) -> None:
    """Seal stored logins with the newest journal key.

    The first key in `journal_key_file` encrypts, and any of them decrypts. Whenever the daemon starts, and so
    after SIGHUP, it seals anew what an older key has sealed. This command lets it do so again. `doctor` says
    which keys are still needed.

    \b
    Example:
      diego-docker-cache seal-anew
    """
    row = call(Target(config_path), lambda client: client.seal_anew())
    if output.is_json:
        output.json_lines([row])
    left = f"; no key of the daemon opens {row['unreadable']:,}" if row["unreadable"] else ""
    output.say(f"sealed {row['renewed']:,} of {format_count(row['values'], 'values')} anew{left}")
