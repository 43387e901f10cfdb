"""What every test gets: a detector of blocking calls on the event loop, and the log as the process writes it."""

import asyncio
import io
import sys
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from controller.logs import configure_logs

# Before Python 3.12 pytest-asyncio's first look for a running loop makes one and never closes it,
# unless it was said that there is none.
asyncio.set_event_loop(None)


class CapturedOutput(io.StringIO):
    """Standard output as it is when something is written, since pytest has another one for each test."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)


@pytest.fixture(autouse=True)
def log_lines() -> None:
    configure_logs("debug", CapturedOutput())


@pytest.fixture(autouse=True)
def no_blocking_on_the_event_loop() -> Iterator[BlockBuster]:
    """Fail a test whose event loop waits inside our code."""
    with blockbuster_ctx(scanned_modules=["controller", "reconcile"]) as detector:
        # A traceback in a log line quotes the source.
        for call in ("os.stat", "io.BufferedReader.read", "io.TextIOWrapper.read"):
            detector.functions[call].can_block_in("linecache.py", {"checkcache", "updatecache"})
        yield detector
