"""Prints the timeline of a demo, whose steps are checked, and has what demos need beside that."""

import asyncio
import contextlib
import time


class StepFailedError(Exception):
    """A step of the story did not happen."""


class Story:
    """Prints a timeline, and ends it with an error when a step did not happen."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def show(self, step: str, text: str) -> None:
        """Print one line of the timeline."""
        print(f"{time.monotonic() - self._begun:6.2f} s  {step:<10} {text}", flush=True)

    def check(self, condition: object, what: str) -> None:
        """End the story when something is not as told."""
        if not condition:
            raise StepFailedError(what)


def megabytes(size: int) -> str:
    """Write a size for people."""
    return f"{size / 1e6:.1f} MB"


def line_with(text: str, part: str) -> str:
    """Return the last line that contains a part; the whole text when none does."""
    return next((line for line in reversed(text.splitlines()) if part in line), text)


async def refuses(address: str) -> bool:
    """Whether nobody listens at an address."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        return False
    return True
