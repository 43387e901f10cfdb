"""Answers health checks: whether the process lives, and whether it is the active instance.

A standby lives, and platforms that wait for a start ask for that. What balances load, or warns of a platform
without an active instance, asks for the other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from controller.bounded_server import serve


@contextmanager
def serve_health(address: str, obstacle: Callable[[], str]) -> Iterator[int]:
    """Serve /ping and /ready at "host:port" for as long as the context lasts, and yield the port.

    Args:
        address: Host and port.
        obstacle: Says why this process is not ready; empty when it is. Called from other threads.

    Raises:
        Invalid: `healthcheck-address`: the address cannot be listened on.
    """

    class Handler(_Checks):
        def why_not_ready(self) -> str:
            return obstacle()

    with serve(address, Handler, key="healthcheck_address") as port:
        yield port


class _Checks(BaseHTTPRequestHandler):
    """Answers one check."""

    def why_not_ready(self) -> str:
        """Say why this process is not ready; empty when it is."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer with a status and a line of text."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with a status."""
        self._send(with_body=False)

    def log_message(self, *_: object) -> None:
        """Write nothing: a check comes every second."""

    def _send(self, *, with_body: bool) -> None:
        status, text = self._answer()
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _answer(self) -> tuple[int, str]:
        path = self.path.partition("?")[0]
        if path == "/ping":
            return 200, "alive"
        if path == "/ready":
            why = self.why_not_ready()
            return (503, why) if why else (200, "active")
        return 404, "there are /ping and /ready"
