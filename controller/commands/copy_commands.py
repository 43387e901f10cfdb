"""The commands that work on copies: cache, image, verify."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.admin.admin_client import AdminClient
from controller.commands.confirmation import explaining_interruption
from controller.commands.listing_commands import describe_job
from controller.commands.options import config_option, direct_option, listing_options, output_option
from controller.commands.output import Output
from controller.commands.sessions import Target, call
from controller.commands.tables import Column, Row, size_column
from controller.commands.words import format_count, format_size, format_time
from reconcile.errors import DockerCacheError
from reconcile.reasons import Reason

if TYPE_CHECKING:
    from rich.progress import Progress


@click.command()
@config_option
@direct_option
@output_option
@click.option("--follow", is_flag=True, help="Wait until the copy exists, and print its URL.")
@click.argument("reference")
def cache(*, config_path: Path, is_direct: bool, output: Output, follow: bool, reference: str) -> None:
    """Copy an image into the private registry.

    The daemon takes the login for the image's registry from its config. --direct implies --follow.

    \b
    Example:
      diego-docker-cache cache --follow docker.io/library/nginx:1.27
    """
    requested = list[Row]()

    async def work(client: AdminClient) -> None:
        job = await client.cache_image(reference)
        requested.append(job)
        if not (follow or is_direct):
            if output.is_json:
                output.json_lines([job])
            output.say(f"requested a copy of {job['source']}: job {job['job_id']}")
            output.say("`jobs --watch` shows its progress")
            return
        last = await _follow(output, client, job)
        if last["state"] != "cached":
            raise DockerCacheError("admin", Reason.COPY_FAILED, f"{last['source']}: {last['error']}")
        if not output.is_json:
            click.echo(last["url"])

    def what_is_left() -> str:
        if not requested:
            return "the copy may not have been requested; `jobs` lists the copies that are"
        goes_on = (
            "the daemon goes on with the copy when it runs" if is_direct else "the daemon goes on copying"
        )
        return f"{goes_on}; `jobs --job {requested[0]['job_id']}` shows how far it is"

    with explaining_interruption(what_is_left):
        call(Target(config_path, is_direct), work)


async def _follow(output: Output, client: AdminClient, job: Row) -> Row:
    """Show a job until it ends, with a line for each change and a progress bar; return its last row."""
    shown = ""
    with _progress_bars(output, is_transfer=True) as bars:
        bar = None if bars is None else bars.add_task("copying", total=None)
        async with aclosing(client.watch_jobs([job["job_id"]])) as changes:
            async for row in changes:
                job = row
                if output.is_json:
                    output.json_lines([row])
                    continue
                line = describe_job(row)
                if line != shown:
                    output.note(line)
                    shown = line
                progress = row["progress"]
                if bars is not None and bar is not None and progress is not None:
                    done = progress["transferred_bytes"] + progress["skipped_bytes"]
                    bars.update(bar, total=progress["total_bytes"] or None, completed=done)
    return job


def _progress_bars(output: Output, *, is_transfer: bool) -> "AbstractContextManager[Progress | None]":
    """Show progress bars inside a `with` block; None when standard error is not a terminal."""
    if not output.has_bars:
        return nullcontext()
    from rich import progress

    columns: list[Any] = [progress.TextColumn("{task.description}", markup=False), progress.BarColumn()]
    columns += (
        [progress.DownloadColumn(), progress.TransferSpeedColumn()]
        if is_transfer
        else [progress.MofNCompleteColumn(), progress.TimeRemainingColumn()]
    )
    return progress.Progress(*columns, console=output.bars, transient=True)


@click.command()
@config_option
@direct_option
@output_option
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def image(*, config_path: Path, is_direct: bool, output: Output, names: tuple[str, ...]) -> None:
    """Show cached images and the LRPs that use them.

    An IMAGE is a cache GUID, a unique prefix of it with at least 4 characters, or a source reference.

    \b
    Examples:
      diego-docker-cache image 03943662
      diego-docker-cache image docker.io/library/nginx:1.27
    """
    rows = call(Target(config_path, is_direct), lambda client: client.get_images(names))
    if output.is_json:
        output.json_lines(rows)
        return
    for number, row in enumerate(rows):
        if number:
            output.say()
        output.pairs(_image_pairs(row))


def _missing(row: Row) -> str:
    lost = row["lost_since"]
    outlook = "being sent again" if lost is None else f"lost: no source has it since {format_time(lost)} UTC"
    return f"{row['missing']}, since {format_time(row['missing_since'])} UTC; {outlook}"


def _image_pairs(row: Row) -> list[tuple[str, str]]:
    since = row["needs_verification_since"]
    return [
        ("cache guid", row["cache_guid"]),
        ("url", row["url"]),
        ("source", row["source"]),
        *(("shared with" if not number else "", each) for number, each in enumerate(row["further_sources"])),
        ("root digest", row["root_digest"]),
        ("platform", row["platform_digest"]),
        ("digest", row["digest"]),
        ("size", format_size(row["bytes"])),
        ("cached", f"{format_time(row['created_at'])} UTC"),
        ("verified", f"{format_time(row['verified_at'])} UTC"),
        ("needs verification", "no" if since is None else f"since {format_time(since)} UTC: run `verify`"),
        *([("missing", _missing(row))] if row["missing_since"] is not None else []),
        ("used by", format_count(len(row["process_guids"]), "LRPs")),
        *(("", each) for each in row["process_guids"]),
    ]


VERIFY_COLUMNS = (
    Column("source", lambda row: row["source"]),
    Column("status", lambda row: row["status"], is_state=True),
    size_column(2),
    Column("error", lambda row: row["error"], priority=1, is_prose=True),
    Column("cache-guid", lambda row: row["cache_guid"], priority=3),
)


@click.command()
@config_option
@direct_option
@listing_options(VERIFY_COLUMNS)
@click.option("--repair", is_flag=True, help="Send again what is missing or corrupt, under the same GUID.")
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
def verify(
    *, config_path: Path, is_direct: bool, output: Output, repair: bool, names: tuple[str, ...]
) -> None:
    """Check every byte of copies in the private registry.

    An IMAGE is a cache GUID, a unique prefix of it with at least 4 characters, or a source reference. Without
    any IMAGE, all copies are verified. No app is migrated to a copy that is corrupt or missing.

    With --repair, what such a copy lacks is sent again from its source under the same GUID, and the copy is
    read once more. Instances that run are not touched.

    The exit status is 0 when all copies are ok or repaired, and 5 otherwise.

    \b
    Examples:
      diego-docker-cache verify
      diego-docker-cache verify 03943662 5f1c
      diego-docker-cache verify --repair
    """
    rows = list[Row]()
    with explaining_interruption(lambda: f"{_read(rows)}; run the command again for the rest"):
        call(
            Target(config_path, is_direct),
            lambda client: _verify(output, client.verify(names, repair=repair), rows),
        )
    if not output.is_json:
        output.listing(rows, VERIFY_COLUMNS, what="copies")
    bad = sum(row["status"] not in {"ok", "repaired"} for row in rows)
    if bad:
        what = f"{bad} of {format_count(len(rows), 'copies')}"
        verb = "is" if bad == 1 else "are"
        next_step = "--wide shows the whole errors" if repair else "`verify --repair` sends again what it can"
        raise DockerCacheError(
            "registry", "not-verified", f"{what} {verb} corrupt, missing or unreadable: {next_step}"
        )


def _read(rows: Sequence[Row]) -> str:
    total = f"{rows[-1]['done']:,} of {format_count(rows[-1]['total'], 'copies')}" if rows else "no copy"
    return f"{total} {'was' if not rows or rows[-1]['total'] == 1 else 'were'} verified"


async def _verify(output: Output, verified: AsyncGenerator[Row, None], rows: list[Row]) -> None:
    """Add a row for each copy, as soon as it was verified."""
    with _progress_bars(output, is_transfer=False) as bars:
        bar = None if bars is None else bars.add_task("reading copies", total=None)
        async with aclosing(verified):
            async for row in verified:
                rows.append(row)
                if bars is not None and bar is not None:
                    bars.update(bar, total=row["total"], completed=row["done"])
                if output.is_json:
                    output.json_lines([row])
