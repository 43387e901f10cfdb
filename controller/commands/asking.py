"""Commands that only ask: images, image, jobs, audit."""

import time
from pathlib import Path

import click

from controller.admin.client import AdminClient
from controller.commands.options import config_option, direct_option, output_option
from controller.commands.output import (
    WIDE,
    WIDEST,
    Column,
    Format,
    Output,
    Row,
    ago,
    counted,
    moment,
    size,
    span,
    table,
)
from controller.commands.sessions import Target, call
from reconcile.errors import NotFound

IMAGES = (
    Column("source", lambda row: row["source"]),
    Column("cache guid", lambda row: row["cache_guid"]),
    Column("size", lambda row: size(row["bytes"]), is_number=True),
    Column("cached", lambda row: ago(row["created_at"]), least=WIDE),
    Column("verified", lambda row: ago(row["verified_at"]), least=WIDE),
    Column(
        "suspect",
        lambda row: ago(row["needs_verification_since"]) if row["needs_verification_since"] else "",
        least=WIDE,
    ),
)


@click.command()
@config_option
@direct_option
@output_option
@click.option(
    "--image", "globs", multiple=True, help="Only images that this glob matches. May be given again."
)
def images(*, config_path: Path, is_direct: bool, wanted: Format, globs: tuple[str, ...]) -> None:
    r"""List cached images.

    \b
    Example:
      diego-docker-cache images --config docker_cache.json --image 'docker.io/library/*'
    """
    output = Output(wanted)
    rows = call(Target(config_path, is_direct), lambda client: client.list_images(globs))
    output.rows(rows, IMAGES, what="images")


@click.command()
@config_option
@direct_option
@output_option
@click.argument("guid")
def image(*, config_path: Path, is_direct: bool, wanted: Format, guid: str) -> None:
    r"""Show one cached image, and which LRPs run from it.

    \b
    Example:
      diego-docker-cache image --config docker_cache.json 03943662-ba36-4c22-8f5b-bcaec55a8303
    """
    output = Output(wanted)
    rows = call(Target(config_path, is_direct), lambda client: client.list_images(guids=[guid]))
    if not rows:
        raise NotFound("admin", "no-such-image", f"there is no cached image {guid}; `images` lists them")
    row = rows[0]
    if output.is_json:
        output.lines([row])
        return
    suspect = (
        "no"
        if row["needs_verification_since"] is None
        else f"since {moment(row['needs_verification_since'])}: verify it"
    )
    output.pairs(
        [
            ("cache guid", row["cache_guid"]),
            ("url", row["url"]),
            ("source", row["source"]),
            ("root digest", row["root_digest"]),
            ("platform", row["platform_digest"]),
            ("digest", row["digest"]),
            ("size", size(row["bytes"])),
            ("cached", f"{moment(row['created_at'])} UTC"),
            ("verified", f"{moment(row['verified_at'])} UTC"),
            ("suspect", suspect),
            ("used by", counted(len(row["process_guids"]), "LRPs")),
            *(("", each) for each in row["process_guids"]),
        ]
    )


def _progress(row: Row) -> str:
    progress = row["progress"]
    if progress is None:
        return f"due in {span(row['not_before'] - time.time())}" if row["not_before"] else ""
    done = progress["moved_bytes"] + progress["skipped_bytes"]
    return f"{size(done)} of {size(progress['total_bytes'])}"


JOBS = (
    Column("source", lambda row: row["source"]),
    Column("state", lambda row: row["state"], is_state=True),
    Column("progress", _progress),
    Column("tries", lambda row: str(row["attempts"]), is_number=True, least=WIDE),
    Column("changed", lambda row: ago(row["updated_at"]), least=WIDE),
    Column("why", lambda row: row["failure"] or row["reason"]),
)


@click.command()
@config_option
@direct_option
@output_option
@click.option("--watch", is_flag=True, help="Stay, and show open jobs as they get on, until Ctrl-C.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["queued", "copying", "cached", "failed"]),
    help="Only jobs in this state. May be given again.",
)
def jobs(*, config_path: Path, is_direct: bool, wanted: Format, watch: bool, states: tuple[str, ...]) -> None:
    r"""List cache jobs: without --state those that wait, copy, or have failed.

    \b
    Example:
      diego-docker-cache jobs --config docker_cache.json --watch
    """
    output = Output(wanted)
    target = Target(config_path, is_direct)
    if not watch:
        output.rows(call(target, lambda client: client.list_jobs(states)), JOBS, what="jobs")
        return
    call(target, lambda client: _watch_jobs(output, client))


async def _watch_jobs(output: Output, client: AdminClient) -> None:
    if output.is_json:
        async for row in client.watch_jobs():
            output.lines([row])
        return
    from rich.live import Live
    from rich.text import Text

    known: dict[str, Row] = {}
    with Live(console=output.console, auto_refresh=False) as live:
        live.update(Text("no open jobs"), refresh=True)
        async for row in client.watch_jobs():
            known[row["job_id"]] = row
            live.update(table(list(known.values()), JOBS, width=output.console.width), refresh=True)


AUDIT = (
    Column("when (UTC)", lambda row: moment(row["at"])),
    Column("call", lambda row: row["call"]),
    Column("outcome", lambda row: row["outcome"]),
    Column("caller", lambda row: row["caller"]),
    Column("arguments", lambda row: row["arguments"], least=WIDEST),
)


@click.command()
@config_option
@direct_option
@output_option
def audit(*, config_path: Path, is_direct: bool, wanted: Format) -> None:
    r"""List what operators had the daemon do, the latest first.

    \b
    Example:
      diego-docker-cache audit --config docker_cache.json --output json
    """
    output = Output(wanted)
    rows = call(Target(config_path, is_direct), lambda client: client.list_audit())
    output.rows(rows, AUDIT, what="entries")
