"""The command line: what a person can ask for, and how errors end it.

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

from controller.commands import apps, asking, doing, overview, reconciling, running
from controller.config import ConfigError
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound

WRONG_USAGE = 3
REFUSED = 4
FAILED = 5


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("diego-docker-cache"), prog_name=running.PROGRAM)
def commands() -> None:
    """Keep a private copy of every Docker image that Cloud Foundry apps run from, and run them from it."""


for command in (
    running.run,
    reconciling.reconcile,
    reconciling.restore,
    overview.status,
    asking.images,
    asking.image,
    asking.jobs,
    apps.apps,
    apps.migrations,
    doing.cache,
    doing.verify,
    doing.evict,
    doing.pause,
    doing.resume,
    doing.reset_circuit,
    asking.audit,
    running.doctor,
    running.config,
    running.completion,
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
        commands.main(args=arguments, prog_name=running.PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except click.ClickException as error:
        click.echo(f"{running.PROGRAM}: {error.format_message()}", err=True)
        sys.exit(FAILED)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(FAILED)
    except DockerCacheError as error:
        click.echo(f"{running.PROGRAM}: {error}", err=True)
        sys.exit(_exit_status(error))
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        click.echo(f"{running.PROGRAM}: {error}", err=True)
        sys.exit(FAILED)
    except SystemExit as error:
        sys.exit(FAILED if error.code == 1 else error.code)  # 1 is what rich makes of a broken pipe


def _mend_streams() -> None:
    """Write what a terminal cannot show as well as it can, and go on where a stream is closed."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
