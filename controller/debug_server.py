"""Shows what the process is doing, and takes another log level, for whoever is on its machine.

The log level is read and set as at the debug servers of Diego's components; what these show of goroutines is
here what tasks and threads are doing.

Source: cloudfoundry/debugserver server.go.
"""

import asyncio
import concurrent.futures
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import structlog

from controller.bounded_server import serve
from controller.log_level import LEVEL_OF, LEVELS, LogLevel
from controller.running_code import tasks_text, threads_text

log = structlog.get_logger(scope="debug")

LOOP_ANSWERS_WITHIN = 2.0
"""Seconds after which an event loop counts as one that stands still."""

_PATHS = "there are /debug/tasks, /debug/threads and /log-level"
_LONGEST_NAME = 16
"""Bytes of a level that is read."""


@contextmanager
def serve_debug(address: str, level: LogLevel, loop: asyncio.AbstractEventLoop) -> Iterator[int]:
    """Serve at "host:port" for as long as the context lasts, and yield the port.

    Args:
        address: Host and port; whoever reaches it is let in.
        level: Of the log lines.
        loop: Whose tasks are shown.

    Raises:
        Invalid: `debug-address`: the address cannot be listened on.
    """

    class Handler(_DebugRequestHandler):
        def tasks(self) -> str:
            return _asked(loop)

        def log_level(self) -> LogLevel:
            return level

    with serve(address, Handler, key="debug_address") as port:
        yield port


def _asked(loop: asyncio.AbstractEventLoop) -> str:
    """Ask an event loop for its tasks, from another thread."""
    answer: concurrent.futures.Future[str] = concurrent.futures.Future()

    def describe() -> None:
        if answer.set_running_or_notify_cancel():
            answer.set_result(tasks_text(loop))

    try:
        loop.call_soon_threadsafe(describe)
        return answer.result(LOOP_ANSWERS_WITHIN)
    except (TimeoutError, RuntimeError):  # it stands still, or has ended
        answer.cancel()
        return f"the event loop has not answered for {LOOP_ANSWERS_WITHIN:g} s: see /debug/threads"


class _DebugRequestHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    def tasks(self) -> str:
        """Describe the tasks of the process."""
        raise NotImplementedError

    def log_level(self) -> LogLevel:
        """Return the level of the log lines."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Show something."""
        path = self.path.partition("?")[0]
        if path == "/debug/tasks":
            self._send(200, self.tasks())
        elif path == "/debug/threads":
            self._send(200, threads_text())
        elif path == "/log-level":
            self._send(200, self.log_level().name)
        else:
            self._send(404, _PATHS)

    def do_PUT(self) -> None:
        """Set the log level."""
        if self.path.partition("?")[0] != "/log-level":
            self._send(404, _PATHS)
            return
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < _LONGEST_NAME else 0
        name = self.rfile.read(size).decode("ascii", "replace").strip() if size <= _LONGEST_NAME else ""
        level = LEVEL_OF.get(name)
        if level is None:
            self._send(400, f"the levels are {', '.join(LEVELS)}")
            return
        self.log_level().set(level)
        log.info("set-log-level", to=level)
        self._send(200, level)

    def do_POST(self) -> None:
        """Set the log level: the servers of the family take any method."""
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        """Write nothing: what was changed is logged by itself."""

    def _send(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
