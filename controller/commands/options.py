"""The options that commands share, and how several commands answer when nothing matches them."""

import functools
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from controller.admin.request_options import Filters
from controller.commands.output import Output, View
from controller.commands.tables import Column
from reconcile.errors import NotFound

F = TypeVar("F", bound=Callable[..., Any])

CONFIG_VARIABLE = "DOCKER_CACHE_CONFIG"

config_option = click.option(
    "--config",
    "config_path",
    required=True,
    envvar=CONFIG_VARIABLE,
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The daemon's config file, in JSON.",
)

direct_option = click.option(
    "--direct",
    "is_direct",
    is_flag=True,
    help="Work without a running daemon; refused while one holds the store.",
)

yes_option = click.option("--yes", "is_sure", is_flag=True, help="Do not ask for confirmation.")

max_in_flight_option = click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    help="LRPs to migrate at a time; at most what the daemon's config says, which is the default.",
)

_format_option = click.option(
    "--output",
    "-o",
    "wanted",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Text, or one JSON object per line.",
)


def output_option(command: F) -> F:
    """Add the option that chooses the format; the command gets an `output`."""

    @functools.wraps(command)
    def run(*, wanted: Any, **options: Any) -> Any:
        return command(output=Output(wanted), **options)

    return cast("F", _format_option(run))


def wide_output_option(command: F) -> F:
    """Add the options of a command that shows tables beside other text; the command gets an `output`."""

    @functools.wraps(command)
    def run(*, wanted: Any, is_wide: bool, **options: Any) -> Any:
        return command(output=Output(wanted, View(is_wide)), **options)

    return cast("F", _format_option(_wide_option(run)))


_wide_option = click.option(
    "--wide",
    "-w",
    "is_wide",
    is_flag=True,
    help="Show all columns, and cut none, however narrow the terminal is.",
)


def listing_options(columns: Sequence[Column]) -> Callable[[F], F]:
    """Add the options of a listing: format, columns and order; the command gets an `output`."""
    names = [column.name for column in columns]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(*, wanted: Any, is_wide: bool, columns: str | None, sort: str | None, **options: Any) -> Any:
            if columns is not None and wanted == "json":
                raise click.UsageError("--columns is for text: with --output json each row has every field")
            chosen = () if columns is None else tuple(_column(each, names) for each in columns.split(","))
            by = "" if sort is None else _column(sort.removeprefix("-"), names)
            view = View(is_wide, chosen, by, is_descending=(sort or "").startswith("-"))
            return command(output=Output(wanted, view), **options)

        run = click.option(
            "--sort", metavar="COLUMN", help="Sort by this column; with - before it, the greatest first."
        )(run)
        run = click.option(
            "--columns",
            metavar="NAMES",
            help=f"Show only these columns, with commas between them, of: {', '.join(names)}.",
        )(run)
        return cast("F", _format_option(_wide_option(run)))

    return decorate


def _column(text: str, names: Sequence[str]) -> str:
    name = text.strip().lower()
    if name not in names:
        raise click.UsageError(f"there is no column {text.strip()!r}; the columns are: {', '.join(names)}")
    return name


_FILTERS = (
    ("--app", "apps", "Only apps whose name or GUID matches this glob."),
    ("--org", "orgs", "Only apps of organizations whose name or GUID matches this glob."),
    ("--space", "spaces", "Only apps of spaces whose name or GUID matches this glob."),
    ("--image", "images", "Only apps of images that match this glob, such as 'docker.io/library/*'."),
    (
        "--process-guid",
        "process_guids",
        "Only this LRP, by its process GUID or a unique prefix of it with at least 4 characters.",
    ),
)


def filter_options(command: F) -> F:
    """Add the options that choose LRPs; the command gets `filters`."""

    @functools.wraps(command)
    def run(**options: Any) -> Any:
        chosen = {field: options.pop(field) for _, field, _ in _FILTERS}
        return command(filters=Filters(**chosen), **options)

    for option, field, text in reversed(_FILTERS):
        run = click.option(option, field, multiple=True, help=f"{text} May be repeated.")(run)
    return cast("F", run)


def written_filters(filters: Filters) -> list[tuple[str, str]]:
    """List the options that filters were given by, with their values."""
    return [(option, value) for option, field, _ in _FILTERS for value in getattr(filters, field)]


_NAMING = frozenset({"--app", "--process-guid", "--job"})
"""Options that name something, unlike those that only narrow a listing."""

_LISTED = {"apps": "the Docker LRPs", "droplets": "the droplets", "jobs": "the open jobs"}
"""Listing to what it lists without options."""


def report_no_match(output: Output, options: Iterable[tuple[str, str]], *, listing: str = "apps") -> None:
    """Say that nothing matches some options.

    Args:
        output: Where it is said.
        options: Each with its value.
        listing: The command that lists what could have been named.

    Raises:
        NotFound: `nothing-matches`: one of them names an app, an LRP or a job, so something was expected.
    """
    given = list(options)
    if not given:
        return
    text = "nothing matches " + " ".join(f"{option} {shlex.quote(value)}" for option, value in given)
    if any(option in _NAMING for option, _ in given):
        raise NotFound("admin", "nothing-matches", f"{text}; `{listing}` lists {_LISTED[listing]}")
    output.note(text)
