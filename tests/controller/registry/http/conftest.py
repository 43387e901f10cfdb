"""A port that answers nothing."""

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def silent_port(servers: None) -> Iterator[int]:
    """A port of all loopback addresses that answers nothing, since too many connections wait there."""
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind(("0.0.0.0", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        for n in range(1, 5):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            assert waiting.connect_ex((f"127.0.0.{n}", port)) == errno.EINPROGRESS
        yield port
