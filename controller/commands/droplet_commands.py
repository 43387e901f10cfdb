"""The command that lists droplets of Cloud Controller."""

from pathlib import Path

import click

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
from controller.commands.tables import Column
from controller.commands.words import format_age, format_wait
from reconcile.droplets import DropletPhase

DROPLETS = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("org", lambda row: row["org_name"], priority=4),
    Column("space", lambda row: row["space_name"], priority=3),
    Column("phase", lambda row: row["phase"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("original", lambda row: row["original_image"], priority=1),
    Column("written", lambda row: row["written_image"], priority=6),
    Column("detail", lambda row: row["detail"], priority=5, is_prose=True),
    Column(
        "next-attempt",
        lambda row: format_wait(row["next_attempt_at"]),
        priority=7,
        value=lambda row: row["next_attempt_at"],
    ),
    Column(
        "changed", lambda row: format_age(row["updated_at"]), priority=8, value=lambda row: row["updated_at"]
    ),
    Column("droplet-guid", lambda row: row["droplet_guid"], priority=2),
)


@click.command()
@config_option
@direct_option
@filter_options
@click.option(
    "--phase",
    "phases",
    multiple=True,
    type=click.Choice([str(phase) for phase in DropletPhase]),
    help="Only droplets of which this was done last. May be repeated.",
)
@listing_options(DROPLETS)
def droplets(
    *, config_path: Path, is_direct: bool, output: Output, phases: tuple[str, ...], filters: Filters
) -> None:
    """List droplets with what was done about them.

    A droplet is what Cloud Controller desires an app and its tasks from. One that is patched names the copy
    of its image, so whatever is started from it later runs from the copy. --image is about the images that
    droplets had before. An app that does not run is shown by its GUID where its name is not known.

    \b
    Examples:
      diego-docker-cache droplets --org 'prod-*' --phase left
      diego-docker-cache droplets --wide
    """
    found = call(Target(config_path, is_direct), lambda client: client.list_droplets(filters, phases))
    rows = sorted(found, key=lambda row: (row["org_name"], row["space_name"], row["app_name"]))
    output.listing(rows, DROPLETS, what="droplets")
    if not rows:
        given = [*written_filters(filters), *(("--phase", phase) for phase in phases)]
        report_no_match(output, given, listing="droplets")
    explain(output, [row["reason"] for row in rows if row["phase"] != "patched"])
