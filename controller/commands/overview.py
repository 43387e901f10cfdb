"""The command that shows the daemon as a whole: status."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.admin.client import AdminClient
from controller.commands.options import config_option, direct_option, output_option
from controller.commands.output import Format, Output, Row, ago, counted, size, span
from controller.commands.sessions import Target, call
from reconcile.reasons import AppState

if TYPE_CHECKING:
    from rich.console import Group

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
            _show_status(output, await client.status(), is_direct=is_direct)
        elif output.is_json:
            await _print_changes(output, client)
        else:
            from rich.live import Live

            with Live(console=output.console, auto_refresh=False) as live:
                while True:
                    live.update(_status_text(await client.status(), is_direct=is_direct), refresh=True)
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


def _show_status(output: Output, row: Row, *, is_direct: bool) -> None:
    if output.is_json:
        output.lines([row])
    else:
        output.pairs(_status_pairs(row, is_direct=is_direct))


def _status_text(row: Row, *, is_direct: bool) -> "Group":
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(f"{name:<10} {text}") for name, text in _status_pairs(row, is_direct=is_direct)))


def _status_pairs(row: Row, *, is_direct: bool) -> list[tuple[str, str]]:
    circuit, listed = row["circuit"], ago(row["listed_at"])
    watching = (
        f"watches the BBS, listed {listed}" if row["watching"] else f"DOES NOT WATCH THE BBS, listed {listed}"
    )
    mode = "migrations apps to their copies"
    if row["restoring"]:
        mode = "migrations apps back to their sources: the private registry does not answer"
    if row["paused"]:
        mode = "paused: begins nothing but what is asked for; `resume` lets it go on"
    state = f"closed, {counted(circuit['failures'], 'failures')} in a row"
    if circuit["open"]:
        wait = span((circuit["retry_at"] or 0.0) - time.time())
        failed = f"{circuit['failures']} in a row failed, the last: {circuit['last']}"
        state = f"OPEN, one is tried in {wait}: {failed}"
    daemon = f"{row['version']}, up {span(time.time() - row['started_at'])}, {watching}"
    if is_direct:
        daemon, mode = "none: this command reads the store by itself", "-"
    pairs = [
        ("daemon", daemon),
        ("mode", mode),
        ("circuit", state),
        (
            "registry",
            f"{row['cache_registry']}: {counted(row['images'], 'images')}, {size(row['image_bytes'])}",
        ),
        ("jobs", _counts(row["jobs_by_state"], ("copying", "queued", "failed", "cached"))),
        ("apps", _counts(row["apps_by_state"], tuple(map(str, AppState)))),
        ("migrating", counted(row["migrations"], "LRPs")),
    ]
    if row["pinned_apps"]:
        pairs.append(
            (
                "pinned",
                f"{counted(row['pinned_apps'], 'apps')} pinned to their sources by an operator",
            )
        )
    return pairs


def _counts(counts: Row, order: tuple[str, ...]) -> str:
    return ", ".join(f"{counts[each]:,} {each}" for each in order if counts.get(each)) or "none"
