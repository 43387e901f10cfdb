"""The command line: what a person can ask for, and how errors end it.

A command's module is imported when that command runs: most of them need what others do without.

Exit status: 0 done, 2 changes are pending (of a plan), 3 wrong usage or config, 4 the other side refused,
5 anything else.
"""

import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import click

from controller import PROGRAM, __version__
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound

WRONG_USAGE = 3
REFUSED = 4
FAILED = 5


class Place(NamedTuple):
    """Where a command is.

    Attributes:
        module: Under `controller.commands`.
        attribute: Of that module.
        help: The first sentence of the command's help.
    """

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, Place] = MappingProxyType(
    {
        "run": Place("running", "run", "Run the daemon until it gets SIGTERM or SIGINT."),
        "reconcile": Place(
            "reconciling",
            "reconcile",
            "Show what it takes to have apps run from their copies, and do it with --apply.",
        ),
        "restore": Place(
            "reconciling", "restore", "Put apps back on the images that they ran from, and leave them there."
        ),
        "status": Place("overview", "status", "Show what the daemon is doing as a whole."),
        "images": Place("asking", "images", "List cached images."),
        "image": Place("asking", "image", "Show one cached image, and which LRPs run from it."),
        "jobs": Place(
            "asking", "jobs", "List cache jobs: without --state those that wait, copy, or have failed."
        ),
        "apps": Place(
            "apps", "apps", "List the Docker LRPs: what they run from, what they are to run from, and why."
        ),
        "migrations": Place("apps", "migrations", "List the LRPs that are being moved right now."),
        "cache": Place("doing", "cache", "Have an image copied into the private registry by hand."),
        "verify": Place(
            "doing",
            "verify",
            "Read copies back from the private registry, byte for byte, and compare; all without a GUID.",
        ),
        "evict": Place("doing", "evict", "Delete a copy that no LRP runs from."),
        "pause": Place(
            "doing",
            "pause",
            "Let the daemon begin nothing any more, also after a restart: neither copies nor migrations.",
        ),
        "resume": Place("doing", "resume", "Let a paused daemon go on."),
        "reset-circuit": Place(
            "doing", "reset_circuit", "Let migrations go on although too many in a row have failed."
        ),
        "audit": Place("asking", "audit", "List what operators had the daemon do, the latest first."),
        "doctor": Place(
            "running",
            "doctor",
            "Check everything that the daemon needs, and say what to do about what is wrong.",
        ),
        "config": Place("running", "config", "Check a config file, or write an example of one."),
        "completion": Place(
            "running",
            "completion",
            "Print what makes a shell complete the commands and options of this program.",
        ),
    }
)
"""Commands by name, in the order in which documents list them."""


class LateCommands(click.Group):
    """Finds commands in `COMMANDS`, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the names as the help does."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module = importlib.import_module(f"controller.commands.{place.module}")
        command = getattr(module, place.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place.module}.{place.attribute} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.command(
    cls=LateCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name=PROGRAM)
def commands() -> None:
    """Keep a private copy of every Docker image that Cloud Foundry apps run from, and run them from it."""


def _exit_status(error: DockerCacheError) -> int:
    from controller.config_file import ConfigError  # noqa: PLC0415 - only what fails needs it

    if isinstance(error, ConfigError):
        return WRONG_USAGE
    return REFUSED if isinstance(error, Conflict | Denied | Invalid | NotFound) else FAILED


def main(arguments: Sequence[str] | None = None, *, given: object = None) -> None:
    """Run a command, and end the process with its exit status.

    Args:
        arguments: Those of the process when None.
        given: The click object of the command; see there.
    """
    _mend_streams()
    try:
        commands.main(args=arguments, prog_name=PROGRAM, standalone_mode=False, obj=given)
    except click.UsageError as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except click.ClickException as error:
        click.echo(f"{PROGRAM}: {error.format_message()}", err=True)
        sys.exit(FAILED)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(FAILED)
    except DockerCacheError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        sys.exit(_exit_status(error))
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
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
