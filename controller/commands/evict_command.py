"""The command that deletes copies: it shows what it would delete, asks, and deletes."""

import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import click

from controller.admin.admin_client import AdminClient
from controller.commands.confirmation import ask, explaining_interruption
from controller.commands.options import config_option, direct_option, listing_options, yes_option
from controller.commands.output import Output
from controller.commands.sessions import Target, call
from controller.commands.tables import Column, Row, size_column
from controller.commands.words import format_age, format_count, format_size, format_time
from reconcile.errors import Conflict

DELETIONS_PENDING = 2


class NotAllDeleted(Conflict):
    """Some of the copies that were named were not deleted."""


@dataclass(slots=True)
class Deleting:
    """Which copies are to be deleted, and how.

    Attributes:
        names: Of copies; none means all that nothing uses.
        is_dry: Nothing is deleted.
        is_sure: Nobody is asked for confirmation.
        chosen: Number of copies that are being deleted; 0 before that.
        deleted: Number of those that were deleted so far.
    """

    names: tuple[str, ...] = ()
    is_dry: bool = False
    is_sure: bool = False
    chosen: int = 0
    deleted: int = 0


def _unused(row: Row) -> str:
    since = row["unused_since"]
    return "" if since is None else f"since {format_age(since)}"


def _deletable_from(row: Row) -> str:
    at = row["deletable_from"]
    return "" if at is None else f"{format_time(at)} UTC"


COLUMNS = (
    Column("source", lambda row: row["source"] or row["name"]),
    Column("verdict", lambda row: row["verdict"], is_state=True),
    size_column(2),
    Column("unused", _unused, priority=3, value=lambda row: row["unused_since"]),
    Column("deletable-from", _deletable_from, priority=4, value=lambda row: row["deletable_from"]),
    Column("detail", lambda row: row["detail"], priority=1, is_prose=True),
    Column("cache-guid", lambda row: row["cache_guid"], priority=5),
)


@click.command()
@config_option
@direct_option
@listing_options(COLUMNS)
@click.option("--unused", "is_unused", is_flag=True, help="All copies that nothing uses.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only show which copies would be deleted.")
@yes_option
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
def evict(  # noqa: PLR0913 - each is an option
    *,
    config_path: Path,
    is_direct: bool,
    output: Output,
    is_unused: bool,
    is_dry: bool,
    is_sure: bool,
    names: tuple[str, ...],
) -> None:
    """Delete copies that nothing uses.

    An IMAGE is a cache GUID, a unique prefix of it with at least 4 characters, or a source reference. What
    would be deleted is shown, with the reason why each other copy stays and from when it may be deleted, and
    is deleted after a confirmation. A copy is in use while an LRP (also one without instances), a bridge, a
    pending or running task or a migration refers to it, and while an app may need it at its next start. It
    may be deleted once nothing has used it for `eviction_grace`. When a named copy is refused, the others are
    still deleted, and the exit status is 4. With --dry-run the status is 2 when something would be deleted,
    0 when not.

    \b
    Examples:
      diego-docker-cache evict --unused --dry-run
      diego-docker-cache evict --unused
      diego-docker-cache evict --yes 0394 docker.io/library/nginx:1.27
    """
    if is_unused == bool(names):
        raise click.UsageError("which copies? name them, or give --unused")

    deleting = Deleting(names, is_dry=is_dry, is_sure=is_sure)
    with explaining_interruption(lambda: _what_is_left(deleting)):
        status = call(
            Target(config_path, is_direct), lambda client: plan_and_delete(output, client, deleting)
        )
    sys.exit(status)


def _what_is_left(deleting: Deleting) -> str:
    if not deleting.chosen:
        return "no copy was deleted"
    done = f"{deleting.deleted:,} of {format_count(deleting.chosen, 'copies')} were deleted"
    return f"{done}, and perhaps one more; run the command again for the rest"


async def plan_and_delete(output: Output, client: AdminClient, deleting: Deleting) -> int:
    """Show which copies can be deleted, ask, delete them, and return the exit status.

    Raises:
        NotAllDeleted: A copy that was named was not deleted, or one that could be.
    """
    names = deleting.names
    rows = await client.plan_eviction(names)
    chosen = [row for row in rows if row["verdict"] == "deletable"]
    if deleting.is_dry or not output.is_json:
        _show(output, rows, chosen)
    if deleting.is_dry:
        return DELETIONS_PENDING if chosen else 0
    refused = [f"{row['name']}: {row['detail']}" for row in rows if row not in chosen] if names else []
    if chosen:
        if not deleting.is_sure:
            if output.is_json:
                for row in chosen:
                    output.note(f"{row['cache_guid']}  {row['source'] or row['name']}")
            await ask(f"Delete {format_count(len(chosen), 'copies')}?")
        refused += await _delete(output, client, [row["cache_guid"] for row in chosen], deleting)
    _refuse(output, refused, len(names) or len(chosen))
    return 0


def _show(output: Output, rows: list[Row], chosen: list[Row]) -> None:
    output.listing(rows, COLUMNS, what="copies")
    if chosen:
        size = format_size(sum(row["bytes"] for row in chosen))
        count = format_count(len(chosen), "copies")
        output.say(f"{count} can be deleted; the registry's garbage collection frees up to {size}")
    else:
        output.say("no copy can be deleted")


async def _delete(output: Output, client: AdminClient, guids: list[str], deleting: Deleting) -> list[str]:
    """Delete copies, and return why some were not deleted."""
    refused, deleting.chosen = list[str](), len(guids)
    async with aclosing(client.evict(guids)) as results:
        async for row in results:
            if not row["deleted"]:
                refused.append(f"{row['cache_guid']}: {row['error']}")
                continue
            deleting.deleted += 1
            if output.is_json:
                output.json_lines([row])
            output.say(f"deleted {row['url']}")
    return refused


def _refuse(output: Output, refused: list[str], total: int) -> None:
    """Report the copies that were not deleted.

    Raises:
        NotAllDeleted: There are some.
    """
    if len(refused) == total == 1:
        raise NotAllDeleted("admin", "not-deleted", refused[0])
    for line in refused:
        output.note(line)
    if refused:
        verb = "was" if len(refused) == 1 else "were"
        what = f"{len(refused)} of {format_count(total, 'copies')} {verb} not deleted"
        raise NotAllDeleted("admin", "not-all-deleted", what)
