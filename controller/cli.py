"""The command line: its commands, and the exit statuses of errors.

A command's module is imported when that command runs: most of them need what others do without.

Exit status: 0 done, 1 the process was the active instance and has lost its lock, 2 changes are pending (of a
plan), 3 wrong usage or config, 4 the other side refused, 5 anything else.
"""

import importlib
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import click

from controller import PROGRAM, __version__
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, LeaseLost, NotFound
from reconcile.foreign_text import shown

LOST_LOCK = 1
WRONG_USAGE = 3
REFUSED = 4
FAILED = 5


class CommandSpec(NamedTuple):
    """Where a command is, and what it does.

    Attributes:
        module: Under `controller.commands`.
        attribute: Of that module.
        help: The first sentence of the command's help.
    """

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, CommandSpec] = MappingProxyType(
    {
        "run": CommandSpec("program_commands", "run", "Run the daemon until it gets SIGTERM or SIGINT."),
        "reconcile": CommandSpec(
            "plan_commands", "reconcile", "Migrate apps to their copies: plan, then apply."
        ),
        "restore": CommandSpec(
            "plan_commands", "restore", "Migrate apps back to their sources and pin them."
        ),
        "status": CommandSpec("control_commands", "status", "Show what the daemon is doing as a whole."),
        "images": CommandSpec("listing_commands", "images", "List cached images."),
        "image": CommandSpec("copy_commands", "image", "Show cached images and the LRPs that use them."),
        "jobs": CommandSpec("listing_commands", "jobs", "List cache jobs."),
        "apps": CommandSpec("listing_commands", "apps", "List Docker LRPs with their state and its reason."),
        "droplets": CommandSpec(
            "droplet_commands", "droplets", "List droplets with what was done about them."
        ),
        "migrations": CommandSpec(
            "listing_commands", "migrations", "List the LRPs that are being migrated now."
        ),
        "cache": CommandSpec("copy_commands", "cache", "Copy an image into the private registry."),
        "verify": CommandSpec(
            "copy_commands", "verify", "Check every byte of copies in the private registry."
        ),
        "evict": CommandSpec("evict_command", "evict", "Delete copies that nothing uses."),
        "backup": CommandSpec("recovery_commands", "backup", "Save a backup of the database to FILE."),
        "restore-backup": CommandSpec(
            "recovery_commands", "restore_backup", "Replace the database with a backup."
        ),
        "rebuild": CommandSpec(
            "recovery_commands", "rebuild", "Adopt copies and apps that the database does not know."
        ),
        "seal-anew": CommandSpec(
            "recovery_commands", "seal_anew", "Seal stored logins with the newest journal key."
        ),
        "pause": CommandSpec("control_commands", "pause", "Let the daemon start no new work until `resume`."),
        "resume": CommandSpec("control_commands", "resume", "Let a paused daemon resume its work."),
        "reset-circuit-breaker": CommandSpec(
            "control_commands", "reset_circuit_breaker", "Let migrations resume after too many failures."
        ),
        "log-level": CommandSpec(
            "control_commands", "log_level", "Show or change which log lines the daemon writes."
        ),
        "audit": CommandSpec("listing_commands", "audit", "List what operators told the daemon to do."),
        "doctor": CommandSpec("program_commands", "doctor", "Check everything that the daemon needs."),
        "config": CommandSpec(
            "program_commands", "config", "Check a config file, or print an example of one."
        ),
        "completion": CommandSpec(
            "program_commands", "completion", "Print a script for completion in a shell."
        ),
    }
)
"""Commands by name, in the order in which documents list them."""


class WholeWords(click.HelpFormatter):
    """Folds help texts between words only: click also folds after a hyphen, within names that people copy."""

    _NO_HYPHEN = "\N{NON-BREAKING HYPHEN}"

    def write_text(self, text: str) -> None:
        """Write a text."""
        super().write_text(text.replace("-", self._NO_HYPHEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms with their descriptions."""
        whole = [(term, text.replace("-", self._NO_HYPHEN)) for term, text in rows]
        super().write_dl(whole, col_max, col_spacing)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write how a command is called."""
        super().write_usage(prog, args.replace("-", self._NO_HYPHEN), prefix)

    def getvalue(self) -> str:
        """Return what was written."""
        return super().getvalue().replace(self._NO_HYPHEN, "-")


click.Context.formatter_class = WholeWords


class LateCommands(click.Group):
    """Finds commands in `COMMANDS`, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the names as the help does."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        spec = COMMANDS.get(cmd_name)
        if spec is None:
            return None
        module = importlib.import_module(f"controller.commands.{spec.module}")
        command = getattr(module, spec.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{spec.module}.{spec.attribute} is no command")
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
    """Keep a private copy of every Docker image that Cloud Foundry apps run from, and run them from it.

    Commands read the daemon's config file, which --config or the variable DOCKER_CACHE_CONFIG names.
    """


def _exit_status(error: DockerCacheError) -> int:
    from controller.config_file import ConfigError  # noqa: PLC0415 - only what fails needs it

    if isinstance(error, ConfigError):
        return WRONG_USAGE
    if isinstance(error, LeaseLost):
        return LOST_LOCK
    return REFUSED if isinstance(error, Conflict | Denied | Invalid | NotFound) else FAILED


def main(arguments: Sequence[str] | None = None, *, given: object = None) -> None:
    """Run a command, and end the process with its exit status.

    Args:
        arguments: Those of the process when None.
        given: The click object of the command; see there.
    """
    _make_streams_safe()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to standard error; our lines say it all
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
        click.echo(f"{PROGRAM}: {shown(str(error))}", err=True)
        sys.exit(FAILED)
    except SystemExit as error:
        sys.exit(FAILED if error.code == 1 else error.code)  # 1 is what rich makes of a broken pipe


def _make_streams_safe() -> None:
    """Replace characters that a terminal cannot show, and open closed streams on nothing."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
