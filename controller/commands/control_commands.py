"""Commands that show and steer the running daemon: status, pause, resume, log-level."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import click

from controller.admin.admin_client import AdminClient
from controller.admin.unhealthy_text import describe_outage, describe_unhealthy
from controller.commands.cloud_controller_view import cloud_controller_pairs
from controller.commands.options import config_option, direct_option, output_option
from controller.commands.output import Output
from controller.commands.sessions import Target, call
from controller.commands.tables import Row
from controller.commands.words import (
    format_age,
    format_count,
    format_duration,
    format_size,
    format_time,
    format_wait,
)
from controller.log_level import LEVELS
from reconcile.reasons import AppState

REFRESH = 1.0
"""Seconds between two looks of --watch."""


@click.command()
@config_option
@direct_option
@output_option
@click.option("--watch", is_flag=True, help="Stay, and show changes until Ctrl-C.")
def status(*, config_path: Path, is_direct: bool, output: Output, watch: bool) -> None:
    """Show what the daemon is doing as a whole.

    \b
    Example:
      diego-docker-cache status --watch
    """

    async def work(client: AdminClient) -> None:
        if not watch:
            _show_status(output, await client.status(), is_direct=is_direct)
        elif output.is_json or output.width is None:
            await _print_changes(output, client, is_direct=is_direct)
        else:
            await _show_live(output, client, is_direct=is_direct)

    with suppress(KeyboardInterrupt) if watch else nullcontext():
        call(Target(config_path, is_direct), work)


async def _print_changes(output: Output, client: AdminClient, *, is_direct: bool) -> None:
    before: Row | None = None
    while True:
        now = await client.status()
        if now != before:
            if before is not None:
                output.say()
            _show_status(output, now, is_direct=is_direct)
            before = now
        await asyncio.sleep(REFRESH)


async def _show_live(output: Output, client: AdminClient, *, is_direct: bool) -> None:
    from controller.commands.live import LiveText

    with LiveText("") as live:
        while True:
            live.show(output.pair_lines(status_pairs(await client.status(), is_direct=is_direct)))
            await asyncio.sleep(REFRESH)


def _show_status(output: Output, row: Row, *, is_direct: bool) -> None:
    if output.is_json:
        output.json_lines([row])
    else:
        output.pairs(status_pairs(row, is_direct=is_direct))


def status_pairs(row: Row, *, is_direct: bool) -> list[tuple[str, str]]:
    """Describe a daemon: names with their texts."""
    if row["instance_id"] and not (row["active"] and row["cache_registry"]):  # it answers no more than that
        return _standby(row)
    listed = format_age(row["listed_at"])
    watching = (
        f"watches the BBS, listed {listed}" if row["watching"] else f"DOES NOT WATCH THE BBS, listed {listed}"
    )
    mode = "migrates apps to their copies"
    if row["restoring"]:
        mode = "migrates apps back to their sources: the private registry does not answer"
    if row["paused"]:
        mode = "paused: starts no new work except what an operator asks for; `resume` ends it"
    daemon = f"{row['version']}, up {format_duration(time.time() - row['started_at'])}, {watching}"
    if row["other_stores"]:
        others = ", ".join(row["other_stores"])
        mode = f"STANDS BY, changes nothing: a daemon with another store works on this BBS ({others})"
    if is_direct:
        daemon, mode = "none: this command reads the store by itself", "-"
    stored = f"{format_count(row['images'], 'images')}, {describe_sizes(row)}"
    outage = row["database_outage"]
    pairs = [
        ("daemon", daemon),
        *([] if is_direct else _leadership(row)),
        *([] if outage is None else [("database", _outage(outage))]),
        ("mode", mode),
        ("circuit breaker", _circuit_breaker(row["circuit_breaker"])),
        *(("set aside", _set_aside(each)) for each in row["set_aside"]),
        *([] if is_direct else _cells(row["cells"])),
        ("registry", row["cache_registry"] if outage is not None else f"{row['cache_registry']}: {stored}"),
        *([] if outage is not None else _counted(row, is_direct=is_direct)),
    ]
    if row["pinned_apps"]:
        pinned = format_count(row["pinned_apps"], "apps")
        pairs.append(("pinned", f"{pinned} pinned to source by an operator"))
    pairs += cloud_controller_pairs(row["cloud_controller"])
    if row["config_error"]:
        refused = " ".join(row["config_error"].split())
        pairs.append(("config", f"REFUSED when it was last read again, the former one is in use: {refused}"))
    pairs += [("certificate", warning) for warning in row["certificate_warnings"]]
    return pairs


def describe_sizes(row: Row) -> str:
    """Say how large the copies are, and what they occupy where that is known to be less."""
    distinct = row["distinct_image_bytes"]
    if not distinct or distinct == row["image_bytes"]:
        return format_size(row["image_bytes"])
    return f"{format_size(distinct)} ({format_size(row['image_bytes'])} with shared layers counted for each)"


def _counted(row: Row, *, is_direct: bool) -> list[tuple[str, str]]:
    """Describe what is counted in the database."""
    return [
        *_incomplete(row),
        *(("former registry", _former(each)) for each in row["former_registries"]),
        *([] if is_direct else map(_unhealthy, row["unhealthy_registries"])),
        ("jobs", _counts(row["jobs_by_state"], ("copying", "queued", "failed", "cached"))),
        ("apps", _counts(row["apps_by_state"], tuple(map(str, AppState)))),
        ("migrating", format_count(row["migrations"], "LRPs")),
    ]


def _outage(row: Row) -> str:
    return describe_outage(row, f"for {format_duration(time.time() - (row['since'] or 0.0))}")


def _standby(row: Row) -> list[tuple[str, str]]:
    """Describe an instance that is not the active one, or waits for a daemon with another store."""
    what = "is not ready" if row["active"] else "is not active"
    return [
        ("daemon", f"{row['version']}, up {format_duration(time.time() - row['started_at'])}"),
        ("instance", f"{row['instance_id']} {what}: {row['obstacle']}"),
    ]


def _leadership(row: Row) -> list[tuple[str, str]]:
    """Say since when an instance is active, and how long it may stay so without renewing its lock.

    Empty where no lock is needed, since there is only one instance.
    """
    if not row["instance_id"] or row["lease_ms"] < 0:
        return []
    text = (
        f"{row['instance_id']}, active since {format_time(row['active_since'])}, may act for "
        f"{format_duration(row['lease_ms'] / 1000)} without renewing its lock"
    )
    return [("instance", f"{text}; NOT READY: {row['obstacle']}" if row["obstacle"] else text)]


def _incomplete(row: Row) -> list[tuple[str, str]]:
    """Say how many copies lack something in the private registry; nothing when none does."""
    incomplete, lost = row["incomplete_images"], row["lost_images"]
    if not incomplete:
        return []
    end = f"; {lost:,} LOST: no known source has it any more" if lost else ", and is being sent again"
    text = f"something of {format_count(incomplete, 'copies')} is missing, see `images`{end}"
    return [("INCOMPLETE", text)]


def _former(row: Row) -> str:
    """Describe a former private registry, and whether anything still needs it."""
    stored = f"{format_count(row['images'], 'images')}, {format_size(row['image_bytes'])}"
    if not row["configured"]:
        return f"{row['address']}: {stored}; NOT CONFIGURED: list it in former_cache_registries"
    run = "runs" if row["lrps"] == 1 else "run"
    return f"{row['address']}: {stored}; {format_count(row['lrps'], 'apps')} {run} from there"


def _unhealthy(row: Row) -> tuple[str, str]:
    return describe_unhealthy(row, f"for {format_duration(time.time() - (row['since'] or 0.0))}")


_FROM_DROPLETS_ADVICE = (
    "no droplet is patched, and tasks and restarts from those that name copies fail at first: "
    "let the registry serve such pulls, or migrate the apps back with `restore`"
)


def _cells(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Describe what is known of the cells."""
    if not rows:
        return [("cells", "not asked yet whether they can pull from the private registry")]
    pairs = []
    for row in rows:
        tags = f" of {', '.join(row['placement_tags'])}" if row["placement_tags"] else ""
        pairs.append((f"cells{tags}", _pulls(row)))
        if row["droplets_detail"]:
            pairs.append((f"FROM DROPLETS{tags}", f"{row['droplets_detail']}; {_FROM_DROPLETS_ADVICE}"))
    return pairs


def _pulls(row: Row) -> str:
    since = f"for {format_duration(time.time() - (row['since'] or 0.0))}"
    if row["state"] == "proven":
        return f"have been able to pull from the private registry {since}"
    again = (
        "a canary asks them now"
        if row["canary_runs"]
        else f"a canary asks them {format_wait(row['retry_at'])}"
    )
    detail = f": {row['detail']}" if row["detail"] else ""
    if row["state"] == "refuted":
        return f"CANNOT PULL from the private registry, {since}{detail}; no app is migrated, {again}"
    return f"not known to pull from the private registry, {since}{detail}; no app is migrated, {again}"


def _circuit_breaker(row: Row) -> str:
    failures = row["failures"]
    if not row["open"]:
        return f"closed, {format_count(failures, 'failures')} in a row"
    wait = format_duration((row["retry_at"] or 0.0) - time.time())
    return (
        f"OPEN: {format_count(failures, 'migrations')} in a row failed{_where(row)}, "
        f"the last: {row['last']}; one is tried in {wait}, `reset-circuit-breaker` closes it"
    )


def _where(row: Row) -> str:
    return f", all on cell {row['cell']}" if row["cell"] else ""


def _set_aside(row: Row) -> str:
    """Describe an organization or a copy whose migrations wait."""
    organization, copy = row["organization"], row["cache_guid"]
    whose = " ".join(filter(None, (organization and f"organization {organization}", copy and f"copy {copy}")))
    wait = format_duration((row["retry_at"] or 0.0) - time.time())
    return (
        f"{whose}: {format_count(row['failures'], 'migrations')} in a row failed{_where(row)}, "
        f"the last: {row['last']}; one is tried in {wait}, all others are migrated"
    )


def _counts(counts: Row, order: tuple[str, ...]) -> str:
    return ", ".join(f"{counts[each]:,} {each}" for each in order if counts.get(each)) or "none"


@click.command()
@config_option
@output_option
def pause(*, config_path: Path, output: Output) -> None:
    """Let the daemon start no new work until `resume`.

    It still does what an operator asks for, and it stays paused after a restart. What has begun runs to its
    end. Stagings are still noted. `cache`, `reconcile --apply` and `restore` work as before.

    \b
    Example:
      diego-docker-cache pause
    """
    call(Target(config_path), lambda client: client.pause())
    _report(output, {"paused": True}, "paused; `resume` ends it")


@click.command()
@config_option
@output_option
def resume(*, config_path: Path, output: Output) -> None:
    """Let a paused daemon resume its work.

    \b
    Example:
      diego-docker-cache resume
    """
    call(Target(config_path), lambda client: client.resume())
    _report(output, {"paused": False}, "resumed")


@click.command("reset-circuit-breaker")
@config_option
@output_option
def reset_circuit_breaker(*, config_path: Path, output: Output) -> None:
    """Let migrations resume after too many failures.

    Those of organizations and copies that are set aside by themselves resume as well.

    \b
    Example:
      diego-docker-cache reset-circuit-breaker
    """
    call(Target(config_path), lambda client: client.reset_circuit_breaker())
    _report(output, {"circuit_breaker_open": False}, "the circuit breaker is closed")


@click.command("log-level")
@click.argument("level", type=click.Choice(LEVELS), required=False)
@config_option
@output_option
def log_level(*, level: str | None, config_path: Path, output: Output) -> None:
    """Show or change which log lines the daemon writes.

    Lines of LEVEL and above are written from now on. It stays until the daemon ends, or
    restarts itself on SIGHUP; then the config decides again. An instance that stands by does this too.

    \b
    Examples:
      diego-docker-cache log-level
      diego-docker-cache log-level debug
    """
    target = Target(config_path)
    row = call(target, lambda client: client.set_log_level(level) if level else client.get_log_level())
    is_changed = row["level"] != row["configured"]
    until = f", until it starts again with {row['configured']}" if is_changed else ""
    _report(output, row, f"the daemon writes lines of level {row['level']} and above{until}")


def _report(output: Output, row: Row, text: str) -> None:
    if output.is_json:
        output.json_lines([row])
    output.say(text)
