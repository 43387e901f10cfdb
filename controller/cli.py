"""The command line: its commands, and the exit statuses of errors.

Exit status: 0 done, 2 changes are pending (of a plan), 3 wrong usage or config, 4 the other side refused,
5 anything else.
"""

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from controller.commands import (
    control_commands,
    copy_commands,
    listing_commands,
    plan_commands,
    program_commands,
)
from controller.config import ConfigError
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound

WRONG_USAGE = 3
REFUSED = 4
FAILED = 5


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("diego-docker-cache"), prog_name=program_commands.PROGRAM)
def commands() -> None:
    """Keep a private copy of every Docker image that Cloud Foundry apps run from, and run them from it.

    Commands read the daemon's config file, which --config or the variable DOCKER_CACHE_CONFIG names.
    """


for command in (
    program_commands.run,
    plan_commands.reconcile,
    plan_commands.restore,
    control_commands.status,
    listing_commands.images,
    copy_commands.image,
    listing_commands.jobs,
    listing_commands.apps,
    listing_commands.migrations,
    copy_commands.cache,
    copy_commands.verify,
    copy_commands.evict,
    control_commands.pause,
    control_commands.resume,
    control_commands.reset_circuit_breaker,
    listing_commands.audit,
    program_commands.doctor,
    program_commands.config,
    program_commands.completion,
):
    commands.add_command(command)


def _exit_status(error: DockerCacheError) -> int:
    if isinstance(error, ConfigError):
        return WRONG_USAGE
    return REFUSED if isinstance(error, Conflict | Denied | Invalid | NotFound) else FAILED


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, and end the process with its exit status."""
    _mend_streams()
    try:
        commands.main(args=arguments, prog_name=program_commands.PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except click.ClickException as error:
        click.echo(f"{program_commands.PROGRAM}: {error.format_message()}", err=True)
        sys.exit(FAILED)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(FAILED)
    except DockerCacheError as error:
        click.echo(f"{program_commands.PROGRAM}: {error}", err=True)
        sys.exit(_exit_status(error))
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        click.echo(f"{program_commands.PROGRAM}: {error}", err=True)
        sys.exit(FAILED)
    except SystemExit as error:
        sys.exit(FAILED if error.code == 1 else error.code)  # 1 is what rich makes of a broken pipe


def _mend_streams() -> None:
    """Replace characters that a terminal cannot show, and open closed streams on nothing."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
