"""Commands that need no running daemon: run, config, doctor, completion."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller import PROGRAM
from controller.commands.options import config_option, output_option
from controller.commands.output import Output

if TYPE_CHECKING:
    from controller.config import Config
    from controller.doctor.diagnosis import Check
    from reconcile.steps import PhaseLimits


@click.command()
@config_option
@click.pass_obj
def run(limits: "PhaseLimits | None", *, config_path: Path) -> None:
    """Run the daemon until it gets SIGTERM or SIGINT.

    On SIGHUP it reads the config file again, and restarts itself with it if it can be used.

    \b
    Example:
      diego-docker-cache run --config /var/vcap/jobs/docker_cache/config/docker_cache.json
    """
    import asyncio
    import uuid
    from functools import partial

    from controller import daemon
    from controller.last_resort import begin_anew
    from controller.leadership import kept
    from controller.library_logs import capture_library_lines
    from controller.logs import TimeFormat, configure_logs
    from reconcile.steps import PhaseLimits

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon handles it
    read_config = partial(_read_usable, config_path)
    config = read_config()
    level = configure_logs(config.log_level, time_format=TimeFormat(config.time_format))
    capture_library_lines()
    lock_run_id = kept.take_over(os.environ) or str(uuid.uuid4())
    running = daemon.run(
        config, read_config, limits=limits or PhaseLimits(), lock_run_id=lock_run_id, log_level=level
    )
    if asyncio.run(running):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        kept.hand_on(lock_run_id, os.environ)
        begin_anew()


def _read_usable(config_path: Path) -> "Config":
    """Read the config, and try whether what it names can be used."""
    from controller.preflight import load_usable_config

    return load_usable_config(config_path)


@click.group()
def config() -> None:
    """Check a config file, or print an example of one."""


@config.command()
@config_option
def check(*, config_path: Path) -> None:
    """Check a config file and the files that it names.

    It says what keeps the daemon from starting with them, and warns of what is more often a mistake than
    intended. The status is 0 when the daemon can start, and 3 otherwise.

    \b
    Example:
      diego-docker-cache config check --config docker_cache.json
    """
    from controller.preflight import load_usable_config, warnings_of

    loaded = load_usable_config(config_path)
    click.echo(f"{config_path} can be used")
    for warning in warnings_of(loaded):
        click.echo(f"warning: {warning}", err=True)


@config.command("example")
def config_example() -> None:
    """Print a complete config file with a comment for each key.

    \b
    Example:
      diego-docker-cache config example > docker_cache.json
    """
    from controller.config import example

    click.echo(example(), nl=False)


@click.command()
@config_option
@output_option
@click.option(
    "--cells",
    "asks_cells",
    is_flag=True,
    help="Also start a tiny instance from the private registry on every cell, and remove it again.",
)
def doctor(*, config_path: Path, output: Output, asks_cells: bool) -> None:
    """Check everything that the daemon needs.

    Each finding says how to fix the problem. The exit status is 5 when there is a problem, and 0 otherwise;
    warnings do not count.

    With --cells every cell shows whether it can pull from the private registry. Cells of isolation segments
    are asked too.

    \b
    Examples:
      diego-docker-cache doctor --config docker_cache.json
      diego-docker-cache doctor --cells
    """
    import asyncio

    from controller.config import load_config

    loaded = load_config(config_path)
    try:
        problems = asyncio.run(_diagnose(output, loaded, asks_cells=asks_cells))
    except asyncio.CancelledError:
        raise click.Abort from None
    if problems:
        sys.exit(5)


def _cells_check(loaded: "Config") -> tuple["Check", ...]:
    from controller.doctor.cells import cells_check
    from controller.library_logs import capture_library_lines
    from controller.logs import configure_logs

    configure_logs("error", sys.stderr)
    capture_library_lines()
    return (cells_check(loaded),)


async def _diagnose(output: Output, loaded: "Config", *, asks_cells: bool) -> int:
    import asyncio
    from contextlib import aclosing

    from controller.doctor import Level, diagnose

    running = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):  # what cells run is removed first
        asyncio.get_running_loop().add_signal_handler(number, running.cancel if running else sys.exit)
    problems = 0
    async with aclosing(diagnose(loaded, extra=_cells_check(loaded) if asks_cells else ())) as findings:
        async for finding in findings:
            problems += finding.level is Level.PROBLEM
            row = {
                "check": finding.check,
                "level": str(finding.level),
                "text": finding.text,
                "advice": finding.advice,
            }
            if output.is_json:
                output.json_lines([row])
            else:
                output.finding(row["level"], row["check"], row["text"], row["advice"])
    return problems


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for completion in a shell.

    \b
    Example:
      eval "$(diego-docker-cache completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not supported")
    root = context.find_root().command
    variable = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"
    click.echo(kind(root, {}, PROGRAM, variable).source())
