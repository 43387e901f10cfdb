"""Asks a person at the terminal before something is changed."""

import asyncio
import sys

import click


class Interrupted(click.ClickException):
    """A person ended the command before all was done."""


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
