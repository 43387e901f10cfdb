"""Commands that only ask: status, images, image, jobs, apps, replacements, audit."""

import asyncio
import time
from pathlib import Path

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from controller.admin.client import AdminClient
from controller.commands.options import (
    chosen_from,
    config_option,
    direct_option,
    filter_options,
    output_option,
)
from controller.commands.output import (
    WIDE,
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
from reconcile.reasons import REASONS, AppState

REFRESH = 1.0
"""Seconds between two looks of --watch."""


@click.command()
@config_option
@direct_option
@output_option
@click.option("--watch", is_flag=True, help="Stay, and show changes until Ctrl-C.")
def status(*, config_path: Path, is_direct: bool, wanted: Format, watch: bool) -> None:
    r"""Show what the daemon is doing as a whole.

    \b
    Example:
      diego-docker-cache status --config docker_cache.json
    """
    output = Output(wanted)

    async def work(client: AdminClient) -> None:
        if not watch:
            _show_status(output, await client.status())
        elif output.is_json:
            await _print_changes(output, client)
        else:
            with Live(console=output.console, auto_refresh=False) as live:
                while True:
                    live.update(_status_text(await client.status()), refresh=True)
                    await asyncio.sleep(REFRESH)

    call(Target(config_path, is_direct), work)


async def _print_changes(output: Output, client: AdminClient) -> None:
    before: Row | None = None
    while True:
        now = await client.status()
        if now != before:
            output.lines([now])
            before = now
        await asyncio.sleep(REFRESH)


def _show_status(output: Output, row: Row) -> None:
    if output.is_json:
        output.lines([row])
    else:
        output.pairs(_status_pairs(row))


def _status_text(row: Row) -> Group:
    return Group(*(Text(f"{name:<10} {text}") for name, text in _status_pairs(row)))


def _status_pairs(row: Row) -> list[tuple[str, str]]:
    circuit, listed = row["circuit"], ago(row["listed_at"])
    watching = (
        f"watches the BBS, listed {listed}" if row["watching"] else f"DOES NOT WATCH THE BBS, listed {listed}"
    )
    mode = "moves apps to their copies"
    if row["restoring"]:
        mode = "moves apps back to their sources: the private registry does not answer"
    if row["paused"]:
        mode = "paused: begins nothing but what is asked for; `resume` lets it go on"
    state = f"closed, {counted(circuit['failures'], 'failures')} in a row"
    if circuit["open"]:
        wait = span((circuit["retry_at"] or 0.0) - time.time())
        failed = f"{circuit['failures']} in a row failed, the last: {circuit['last']}"
        state = f"OPEN, one is tried in {wait}: {failed}"
    pairs = [
        ("daemon", f"{row['version']}, up {span(time.time() - row['started_at'])}, {watching}"),
        ("mode", mode),
        ("circuit", state),
        (
            "registry",
            f"{row['cache_registry']}: {counted(row['images'], 'images')}, {size(row['image_bytes'])}",
        ),
        ("jobs", _counts(row["jobs_by_state"], ("copying", "queued", "failed", "cached"))),
        ("apps", _counts(row["apps_by_state"], tuple(map(str, AppState)))),
        ("moving", counted(row["replacements"], "LRPs")),
    ]
    if row["held_apps"]:
        pairs.append(
            (
                "held",
                f"{counted(row['held_apps'], 'apps')} held on their sources, where an operator put them back",
            )
        )
    return pairs


def _counts(counts: Row, order: tuple[str, ...]) -> str:
    return ", ".join(f"{counts[each]:,} {each}" for each in order if counts.get(each)) or "none"


IMAGES = (
    Column("source", lambda row: row["source"]),
    Column("cache guid", lambda row: row["cache_guid"]),
    Column("size", lambda row: size(row["bytes"]), is_number=True),
    Column("cached", lambda row: ago(row["created_at"]), is_wide=True),
    Column("verified", lambda row: ago(row["verified_at"]), is_wide=True),
    Column("suspect", lambda row: ago(row["suspect_since"]) if row["suspect_since"] else "", is_wide=True),
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
    suspect = "no" if row["suspect_since"] is None else f"since {moment(row['suspect_since'])}: verify it"
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
    Column("tries", lambda row: str(row["attempts"]), is_number=True, is_wide=True),
    Column("changed", lambda row: ago(row["updated_at"]), is_wide=True),
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
    known: dict[str, Row] = {}
    with Live(console=output.console, auto_refresh=False) as live:
        live.update(Text("no open jobs"), refresh=True)
        async for row in client.watch_jobs():
            known[row["job_id"]] = row
            live.update(table(list(known.values()), JOBS, wide=output.console.width >= WIDE), refresh=True)


APPS = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("org / space", lambda row: f"{row['org_name']} / {row['space_name']}"),
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("running", lambda row: f"{row['running']}/{row['instances']}", is_number=True),
    Column("process guid", lambda row: row["process_guid"], is_wide=True),
    Column("runs from", lambda row: row["rootfs"].removeprefix("docker://"), is_wide=True),
)


@click.command()
@config_option
@direct_option
@output_option
@filter_options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in AppState]),
    help="Only LRPs in this state. May be given again.",
)
def apps(
    *, config_path: Path, is_direct: bool, wanted: Format, states: tuple[str, ...], **filters: tuple[str, ...]
) -> None:
    r"""List the Docker LRPs: what they run from, what they are to run from, and why.

    \b
    Example:
      diego-docker-cache apps --config docker_cache.json --org prod --state failed
    """
    output = Output(wanted)
    chosen = chosen_from(filters)
    rows = call(Target(config_path, is_direct), lambda client: client.list_apps(chosen, states))
    output.rows(rows, APPS, what="apps")
    explain(output, {row["reason"] for row in rows if row["state"] in {"failed", "left-alone", "pending"}})


def explain(output: Output, reasons: set[str]) -> None:
    """Say below a table what reasons mean."""
    if output.is_json or not reasons:
        return
    output.say("")
    output.pairs([(each, REASONS[each].text.replace("`", "")) for each in sorted(reasons) if each in REASONS])


REPLACEMENTS = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("phase", lambda row: row["phase"]),
    Column("for", lambda row: span(time.time() - (row["entered_at"] or row["started_at"])), is_number=True),
    Column("strategy", lambda row: row["strategy"]),
    Column("to", lambda row: row["goal"]),
    Column("round", lambda row: str(row["rounds"]), is_number=True),
    Column("process guid", lambda row: row["process_guid"], is_wide=True),
    Column("cache guid", lambda row: row["cache_guid"], is_wide=True),
)


@click.command()
@config_option
@direct_option
@output_option
def replacements(*, config_path: Path, is_direct: bool, wanted: Format) -> None:
    r"""List the LRPs that are being moved right now.

    \b
    Example:
      diego-docker-cache replacements --config docker_cache.json
    """
    output = Output(wanted)
    rows = call(Target(config_path, is_direct), lambda client: client.list_replacements())
    output.rows(rows, REPLACEMENTS, what="replacements")


AUDIT = (
    Column("when (UTC)", lambda row: moment(row["at"])),
    Column("call", lambda row: row["call"]),
    Column("outcome", lambda row: row["outcome"]),
    Column("caller", lambda row: row["caller"]),
    Column("arguments", lambda row: row["arguments"], is_wide=True),
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
