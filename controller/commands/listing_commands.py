"""Commands that list: images, jobs, apps, migrations, audit."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

import click

from controller.admin.admin_client import AdminClient
from controller.admin.request_options import Filters
from controller.commands.meanings import explain
from controller.commands.options import (
    config_option,
    direct_option,
    filter_options,
    listing_options,
    report_no_match,
    written_filters,
)
from controller.commands.output import Output
from controller.commands.sessions import Target, call
from controller.commands.tables import Column, Row, size_column
from controller.commands.words import (
    format_age,
    format_count,
    format_duration,
    format_size,
    format_time,
    format_wait,
)
from reconcile.reasons import AppState


def _needs_verification(row: Row) -> str:
    since = row["needs_verification_since"]
    return "" if since is None else f"since {format_age(since)}"


IMAGES = (
    Column("source", lambda row: row["source"]),
    Column("cache-guid", lambda row: row["cache_guid"]),
    size_column(1),
    Column(
        "needs-verification",
        _needs_verification,
        priority=2,
        value=lambda row: row["needs_verification_since"],
    ),
    Column(
        "missing",
        lambda row: row["missing"],
        priority=2,
        value=lambda row: row["missing_since"],
        is_prose=True,
    ),
    Column(
        "cached", lambda row: format_age(row["created_at"]), priority=3, value=lambda row: row["created_at"]
    ),
    Column(
        "verified",
        lambda row: format_age(row["verified_at"]),
        priority=4,
        value=lambda row: row["verified_at"],
    ),
    Column("shared-with", lambda row: ", ".join(row["further_sources"]), priority=7),
)


@click.command()
@config_option
@direct_option
@click.option("--image", "globs", multiple=True, help="Only images that match this glob. May be repeated.")
@listing_options(IMAGES)
def images(*, config_path: Path, is_direct: bool, output: Output, globs: tuple[str, ...]) -> None:
    """List cached images.

    \b
    Examples:
      diego-docker-cache images --image 'docker.io/library/*'
      diego-docker-cache images --sort -size --columns source,size
    """
    rows = call(Target(config_path, is_direct), lambda client: client.list_images(globs))
    output.listing(rows, IMAGES, what="images")
    if not rows:
        report_no_match(output, [("--image", glob) for glob in globs])


def progress_of(job: Row) -> str:
    """Write how far a job's copy has come; empty while it does not copy."""
    progress = job["progress"]
    if progress is None:
        return ""
    done = progress["transferred_bytes"] + progress["skipped_bytes"]
    total = progress["total_bytes"]
    return f"{format_size(done)} of {format_size(total)}" if total else format_size(done)


def attempt_of(job: Row) -> str:
    """Write how many attempts a job has begun, of how many it has."""
    return f"{job['attempts']} of {job['max_attempts']}"


def describe_job(job: Row) -> str:
    """Describe a job in one line: state, attempt, error of the last attempt, and start of the next one."""
    source, attempt = job["source"], attempt_of(job)
    match job["state"]:
        case "copying":
            return f"{source}: copying, attempt {attempt}"
        case "queued" if job["error"]:
            wait = (
                f"next attempt {format_wait(job['next_attempt_at'])}" if job["next_attempt_at"] else "queued"
            )
            return f"{source}: attempt {attempt} failed: {job['error']}; {wait}"
        case "failed":
            return f"{source}: failed after {format_count(job['attempts'], 'attempts')}"
        case state:
            return f"{source}: {state}"


JOBS = (
    Column("source", lambda row: row["source"]),
    Column("state", lambda row: row["state"], is_state=True),
    Column("progress", progress_of, priority=2),
    Column("attempt", attempt_of, priority=3, value=lambda row: row["attempts"]),
    Column(
        "next-attempt",
        lambda row: format_wait(row["next_attempt_at"]),
        priority=4,
        value=lambda row: row["next_attempt_at"],
    ),
    Column("reason", lambda row: row["reason"], priority=6),
    Column("error", lambda row: row["error"], priority=1, is_prose=True),
    Column(
        "changed", lambda row: format_age(row["updated_at"]), priority=7, value=lambda row: row["updated_at"]
    ),
    Column("job-id", lambda row: row["job_id"], priority=5),
)


@click.command()
@config_option
@direct_option
@click.option("--watch", is_flag=True, help="Stay, and show open jobs as they change, until Ctrl-C.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["queued", "copying", "cached", "failed"]),
    help="Only jobs in this state. May be repeated.",
)
@click.option(
    "--job",
    "job_ids",
    multiple=True,
    help="Only this job, by its id or a unique prefix of it with at least 4 characters. May be repeated.",
)
@listing_options(JOBS)
def jobs(  # noqa: PLR0913 - each is an option
    *,
    config_path: Path,
    is_direct: bool,
    output: Output,
    watch: bool,
    states: tuple[str, ...],
    job_ids: tuple[str, ...],
) -> None:
    """List cache jobs.

    Without --state or --job, jobs that are queued, copying or failed are listed.

    \b
    Examples:
      diego-docker-cache jobs --watch
      diego-docker-cache jobs --state failed --wide
    """
    target = Target(config_path, is_direct)
    if watch:
        if states or job_ids:
            raise click.UsageError("--watch shows all open jobs: give no --state and no --job with it")
        if output.width is None and (output.view.columns or output.view.sort):
            raise click.UsageError(
                "where there is no terminal, --watch shows one change a line: give no --columns and no --sort"
            )
        with suppress(KeyboardInterrupt):
            call(target, lambda client: _watch_jobs(output, client))
        return
    rows = call(target, lambda client: client.list_jobs(states, job_ids))
    output.listing(rows, JOBS, what="jobs")
    if not rows:
        given = [("--state", state) for state in states] + [("--job", job_id) for job_id in job_ids]
        report_no_match(output, given, listing="jobs")


async def _watch_jobs(output: Output, client: AdminClient) -> None:
    async with aclosing(client.watch_jobs()) as changes:
        if output.is_json:
            async for row in changes:
                output.json_lines([row])
        elif output.width is None:
            async for row in changes:
                output.say(", ".join(filter(None, (describe_job(row), progress_of(row)))))
        else:
            await _show_live(output, changes)


async def _show_live(output: Output, changes: AsyncGenerator[Row, None]) -> None:
    from controller.commands.live import LiveText

    known: dict[str, Row] = {}
    with LiveText("no open jobs") as live:
        async for row in changes:
            known[row["job_id"]] = row
            live.show(output.table(list(known.values()), JOBS))


APPS = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("org", lambda row: row["org_name"], priority=3),
    Column("space", lambda row: row["space_name"], priority=2),
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column(
        "running",
        lambda row: f"{row['running']}/{row['instances']}",
        priority=1,
        is_number=True,
        value=lambda row: row["running"],
    ),
    Column("runs-from", lambda row: row["rootfs"].removeprefix("docker://"), priority=4),
    Column("droplet", lambda row: row["droplet_phase"], priority=7),
    Column("detail", lambda row: row["detail"], priority=6, is_prose=True),
    Column("process-guid", lambda row: row["process_guid"], priority=5),
)


@click.command()
@config_option
@direct_option
@filter_options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in AppState]),
    help="Only LRPs in this state. May be repeated.",
)
@listing_options(APPS)
def apps(
    *, config_path: Path, is_direct: bool, output: Output, states: tuple[str, ...], filters: Filters
) -> None:
    """List Docker LRPs with their state and its reason.

    \b
    Examples:
      diego-docker-cache apps --org 'prod-*' --state failed
      diego-docker-cache apps --wide
    """
    found = call(Target(config_path, is_direct), lambda client: client.list_apps(filters, states))
    rows = sorted(found, key=lambda row: (row["org_name"], row["space_name"], row["app_name"]))
    output.listing(rows, APPS, what="apps")
    if not rows:
        report_no_match(output, [*written_filters(filters), *(("--state", state) for state in states)])
    explain(output, [row["reason"] for row in rows if row["state"] not in {"cached", "migrating"}])


MIGRATIONS = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("phase", lambda row: row["phase"]),
    Column(
        "phase-age",
        lambda row: format_duration(time.time() - _phase_began(row)),
        priority=1,
        is_number=True,
        value=lambda row: -_phase_began(row),
    ),
    Column("strategy", lambda row: row["strategy"], priority=2),
    Column("to", lambda row: row["goal"], priority=3),
    Column(
        "round", lambda row: str(row["rounds"]), priority=6, is_number=True, value=lambda row: row["rounds"]
    ),
    Column("process-guid", lambda row: row["process_guid"], priority=4),
    Column("cache-guid", lambda row: row["cache_guid"], priority=5),
)


def _phase_began(row: Row) -> float:
    return float(row["entered_at"] or row["started_at"])


@click.command()
@config_option
@direct_option
@click.option(
    "--process-guid",
    "process_guids",
    multiple=True,
    help="Only this LRP, by its process GUID or a unique prefix of it with at least 4 characters. May be "
    "repeated.",
)
@listing_options(MIGRATIONS)
def migrations(*, config_path: Path, is_direct: bool, output: Output, process_guids: tuple[str, ...]) -> None:
    """List the LRPs that are being migrated now.

    \b
    Example:
      diego-docker-cache migrations
    """
    rows = call(Target(config_path, is_direct), lambda client: client.list_migrations(process_guids))
    output.listing(rows, MIGRATIONS, what="migrations")
    if not rows and process_guids:
        output.note(f"none of these is being migrated: {', '.join(process_guids)}")


AUDIT = (
    Column("time-utc", lambda row: format_time(row["at"]), value=lambda row: row["at"]),
    Column("call", lambda row: row["call"]),
    Column("outcome", lambda row: row["outcome"], is_prose=True),
    Column("caller", lambda row: row["caller"], priority=1),
    Column("arguments", lambda row: row["arguments"], priority=2, is_prose=True),
)


@click.command()
@config_option
@direct_option
@listing_options(AUDIT)
def audit(*, config_path: Path, is_direct: bool, output: Output) -> None:
    """List what operators told the daemon to do.

    The latest entry comes first.

    \b
    Example:
      diego-docker-cache audit --output json
    """
    rows = call(Target(config_path, is_direct), lambda client: client.list_audit())
    output.listing(rows, AUDIT, what="entries")
