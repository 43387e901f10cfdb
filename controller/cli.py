"""What a person can ask for: run the daemon, and look at what it has done.

Exit status: 0 done, 3 wrong usage or config, 4 the other side refused, 5 anything else.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table

from controller import daemon
from controller.config import Config, ConfigError, load_config
from controller.logs import configure_logs
from controller.store import open_store_readonly
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid

WRONG_USAGE = 3
REFUSED = 4
FAILED = 5

Output = Literal["auto", "json", "table"]
Row = Mapping[str, str | float | None]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("diego-docker-cache"), prog_name="diego-docker-cache")
def commands() -> None:
    """Keep a private copy of every Docker image that Cloud Foundry apps run from, and run them from it."""


_config_option = click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path),
    help="The daemon's config file, in JSON.",
)


@commands.command()
@_config_option
def run(config_path: Path) -> None:
    r"""Run the daemon until it gets SIGTERM or SIGINT.

    \b
    Example:
      diego-docker-cache run --config /var/vcap/jobs/docker_cache/config/docker_cache.json
    """
    config = load_config(config_path)
    configure_logs(config.log_level)
    asyncio.run(daemon.run(config))


@commands.command("check-config")
@_config_option
def check_config(config_path: Path) -> None:
    r"""Check a config file and the files that it names, and say what is wrong with it.

    \b
    Example:
      diego-docker-cache check-config --config docker_cache.json
    """
    load_config(config_path)
    click.echo(f"{config_path} can be used")


@commands.command()
@_config_option
@click.option(
    "--output",
    type=click.Choice(["auto", "json", "table"]),
    default="auto",
    help="Tables on a terminal and JSON lines elsewhere, or always one of them.",
)
def status(config_path: Path, output: Output) -> None:
    r"""Show cached images, jobs that wait or have failed, and Docker LRPs, beside a running daemon.

    \b
    Example:
      diego-docker-cache status --config docker_cache.json --output json
    """
    report = asyncio.run(_read_status(load_config(config_path)))
    if output == "json" or (output == "auto" and not sys.stdout.isatty()):
        for row in report.lines():
            click.echo(json.dumps(row))
        return
    console = Console()
    for kind, rows in report.by_kind.items():
        console.print(_table(kind, rows) if rows else f"0 {kind}s\n")


@dataclass(frozen=True, slots=True)
class Report:
    """Rows by kind: "image", "job" and "lrp"; each row maps a column to its text or number."""

    by_kind: Mapping[str, Sequence[Row]]

    def lines(self) -> Iterable[Row]:
        """All rows, each with its kind."""
        return ({"kind": kind, **row} for kind, rows in self.by_kind.items() for row in rows)


async def _read_status(config: Config) -> Report:
    cache = config.cache_repositories
    async with open_store_readonly(config.database_url) as records:
        images: list[Row] = [
            {
                "cache_guid": image.cache_guid,
                "source": str(image.source),
                "url": str(cache.rootfs(image.cache_guid)),
                "digest": str(image.digest),
                "bytes": image.size,
            }
            for image in await records.list_images()
        ]
        jobs: list[Row] = [
            {
                "job": job.job_id,
                "source": str(job.source),
                "state": str(job.state),
                "attempts": job.attempts,
                "not_before": job.not_before,
                "failure": job.failure,
            }
            for job in (*await records.list_open_jobs(), *await records.list_failed_jobs())
        ]
        lrps: list[Row] = [
            {
                "process_guid": lrp.process_guid,
                "app_guid": lrp.app_guid,
                "reason": lrp.reason,
                "detail": lrp.detail,
                "rootfs": lrp.rootfs,
                "cache_guid": lrp.cache_guid,
            }
            for lrp in await records.list_lrps()
        ]
    return Report({"image": images, "job": jobs, "lrp": lrps})


COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("source", "cache_guid", "bytes"),
    "job": ("source", "state", "attempts", "failure"),
    "lrp": ("app_guid", "reason", "rootfs"),
}
"""What a terminal has room for; JSON lines have everything."""


def _table(kind: str, rows: Sequence[Row]) -> Table:
    title = f"{len(rows)} {kind}{'' if len(rows) == 1 else 's'}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS[kind]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in COLUMNS[kind]))
    return table


def _exit_status(error: DockerCacheError) -> int:
    if isinstance(error, ConfigError):
        return WRONG_USAGE
    return REFUSED if isinstance(error, Conflict | Denied | Invalid) else FAILED


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, and end the process with its exit status."""
    try:
        commands.main(args=arguments, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except click.ClickException as error:
        error.show()
        sys.exit(FAILED)
    except click.Abort:
        sys.exit(FAILED)
    except DockerCacheError as error:
        click.echo(f"diego-docker-cache: {error}", err=True)
        sys.exit(_exit_status(error))
