"""Asks a person at the terminal before something is changed, and says what Ctrl-C has left undone."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


class Interrupted(click.ClickException):
    """A person ended the command before all was done."""


@contextmanager
def explaining_interruption(what_is_left: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C within a block end the command with a text of what was done and what goes on.

    Raises:
        Interrupted: Ctrl-C was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {what_is_left()}") from None


async def ask(question: str) -> None:
    """Ask a question, and return when the answer is yes.

    Raises:
        Interrupted: The answer is anything else.
        click.UsageError: There is no terminal to ask on.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give --yes")
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)  # a thread that reads could not be interrupted
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Interrupted("nothing was changed")
