"""Commands that show LRPs: apps and migrations."""

import time
from pathlib import Path

import click

from controller.commands.options import (
    chosen_from,
    config_option,
    direct_option,
    filter_options,
    output_option,
)
from controller.commands.output import WIDE, WIDEST, Column, Format, Output, span
from controller.commands.sessions import Target, call
from reconcile.reasons import AppState, Reason

APPS = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("org / space", lambda row: f"{row['org_name']} / {row['space_name']}"),
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("running", lambda row: f"{row['running']}/{row['instances']}", is_number=True),
    Column("process guid", lambda row: row["process_guid"], least=WIDEST),
    Column("runs from", lambda row: row["rootfs"].removeprefix("docker://"), least=WIDE),
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
    found = call(Target(config_path, is_direct), lambda client: client.list_apps(chosen, states))
    rows = sorted(found, key=lambda row: (row["org_name"], row["space_name"], row["app_name"]))
    output.rows(rows, APPS, what="apps")
    explain(output, {row["reason"] for row in rows if row["state"] in {"failed", "skipped", "pending"}})


def explain(output: Output, reasons: set[str]) -> None:
    """Say below a table what reasons mean."""
    if output.is_json or not reasons:
        return
    output.say("")
    output.pairs(
        [(each, Reason(each).meaning.replace("`", "")) for each in sorted(reasons) if each in set(Reason)]
    )


MIGRATIONS = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("phase", lambda row: row["phase"]),
    Column("for", lambda row: span(time.time() - (row["entered_at"] or row["started_at"])), is_number=True),
    Column("strategy", lambda row: row["strategy"]),
    Column("to", lambda row: row["goal"]),
    Column("round", lambda row: str(row["rounds"]), is_number=True),
    Column("process guid", lambda row: row["process_guid"], least=WIDEST),
    Column("cache guid", lambda row: row["cache_guid"], least=WIDEST),
)


@click.command()
@config_option
@direct_option
@output_option
def migrations(*, config_path: Path, is_direct: bool, wanted: Format) -> None:
    r"""List the LRPs that are being moved right now.

    \b
    Example:
      diego-docker-cache migrations --config docker_cache.json
    """
    output = Output(wanted)
    rows = call(Target(config_path, is_direct), lambda client: client.list_migrations())
    output.rows(rows, MIGRATIONS, what="migrations")
