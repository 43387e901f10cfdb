"""Every help text, as a person reads it."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from controller.cli import commands

PROGRAM = "diego-docker-cache"


def every_command(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)


PATHS = list(every_command(commands))
each_command = pytest.mark.parametrize("path", PATHS, ids=" ".join)


def found(path: tuple[str, ...]) -> click.Command:
    command: click.Command = commands
    for name in path:
        assert isinstance(command, click.Group)
        inner = command.get_command(click.Context(command), name)
        assert inner is not None
        command = inner
    return command


def help_of(*path: str, columns: int = 80) -> str:
    result = CliRunner().invoke(
        commands, [*path, "--help"], prog_name=PROGRAM, env={"COLUMNS": str(columns)}, terminal_width=columns
    )
    assert result.exit_code == 0, result.output
    return result.output


def examples_of(text: str) -> list[str]:
    """The lines below "Example:", up to the next empty one."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.strip() in {"Example:", "Examples:"}:
            break
    return list(iter(lambda: next(lines, "").rstrip(), ""))


@each_command
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_no_escape_shows_in_a_help_text(path: tuple[str, ...], columns: int) -> None:
    text = help_of(*path, columns=columns)

    assert "\\b" not in text
    assert all(character.isprintable() for line in text.splitlines() for character in line)


@each_command
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_no_line_ends_within_a_name(path: tuple[str, ...], columns: int) -> None:
    """Options, columns and statuses have hyphens, and are copied."""
    for line in help_of(*path, columns=columns).splitlines():
        assert not re.search(r"\w-$", line), line


@each_command
def test_examples_stand_on_lines_of_their_own(path: tuple[str, ...]) -> None:
    if isinstance(found(path), click.Group):
        return
    examples = examples_of(help_of(*path))

    assert examples
    for line in examples:
        assert line.startswith("    ")
        assert line.strip().startswith((f"{PROGRAM} {' '.join(path)}", 'eval "$(')), line
        assert len(line) <= 80 or path[-1] == "run", line


@each_command
def test_examples_can_be_typed_as_they_are(path: tuple[str, ...]) -> None:
    """Each of their options and arguments is one that the command takes."""
    for line in examples_of(help_of(*path)):
        words = shlex.split(line.strip().split(" > ")[0])
        if words[0] != PROGRAM:
            continue
        arguments = [*words[1 + len(path) :], "--config", "x.json"]
        command = found(path)
        if not any(option.name == "config_path" for option in command.params):
            arguments = arguments[:-2]
        command.make_context(path[-1], arguments)


@each_command
def test_every_option_says_what_it_does(path: tuple[str, ...]) -> None:
    for parameter in found(path).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help.endswith("."), parameter.help


@each_command
def test_a_help_text_begins_with_a_sentence_that_the_list_of_commands_shows_whole(
    path: tuple[str, ...],
) -> None:
    listing = help_of(*path[:-1])
    (line,) = [line for line in listing.splitlines() if line.split()[:1] == [path[-1]]]

    assert line.rstrip().endswith(".")
    assert not line.rstrip().endswith("..."), line


@each_command
def test_no_old_word_is_left_in_a_help_text(path: tuple[str, ...]) -> None:
    text = " ".join(help_of(*path).split()).lower()

    for word in (
        "suspect",
        "re-point",
        "left alone",
        "leave alone",
        "held on",
        "moved",
        "damaged",
    ):
        assert word not in text
    assert not re.search(r"\bput(s|ting)? (\w+ ){0,3}back\b", text)


def test_all_commands_are_there() -> None:
    assert [" ".join(path) for path in PATHS] == [
        *("apps", "audit", "backup", "cache", "completion", "config", "config check", "config example"),
        *(
            "doctor",
            "droplets",
            "evict",
            "image",
            "images",
            "jobs",
            "log-level",
            "migrations",
            "pause",
            "rebuild",
            "reconcile",
        ),
        *(
            "reset-circuit-breaker",
            "restore",
            "restore-backup",
            "resume",
            "run",
            "seal-anew",
            "status",
            "verify",
        ),
    ]
