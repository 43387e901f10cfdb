"""The options that commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from controller.admin.questions import Chosen

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "config_path",
    required=True,
    envvar="DOCKER_CACHE_CONFIG",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="The daemon's config file, in JSON.",
)

output_option = click.option(
    "--output",
    "wanted",
    type=click.Choice(["auto", "json", "table"]),
    default="auto",
    help="Tables on a terminal and JSON lines elsewhere, or always one of them.",
)

direct_option = click.option(
    "--direct",
    "is_direct",
    is_flag=True,
    help="Work without a running daemon; refused while one holds the store.",
)

yes_option = click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")

max_in_flight_option = click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    help="LRPs moved at a time; at most what the daemon's config says, which is the default.",
)


def filter_options(command: F) -> F:
    """Add the options that choose LRPs."""
    for name, text in reversed(
        (
            ("--app", "Only this app, by name or GUID."),
            ("--org", "Only apps of this organization, by name or GUID."),
            ("--space", "Only apps of this space, by name or GUID."),
            ("--image", "Only apps of images that this glob matches, such as 'docker.io/library/*'."),
            ("--process-guid", "Only this LRP."),
        )
    ):
        target = name.removeprefix("--").replace("-", "_") + "s"
        command = click.option(name, target, multiple=True, help=f"{text} May be given again.")(command)
    return command


def chosen_from(options: dict[str, tuple[str, ...]]) -> Chosen:
    """Take the filters out of a command's options."""
    return Chosen(
        orgs=options["orgs"],
        spaces=options["spaces"],
        apps=options["apps"],
        images=options["images"],
        process_guids=options["process_guids"],
    )
