"""Answers health checks: whether the process lives, whether it is the active instance, and what is unwell.

A standby lives, and platforms that wait for a start ask for that. What balances load, or warns of a platform
without an active instance, asks for the second. The third is for people and for what warns them: nothing is
better for a restart because a registry is away.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

from controller.bounded_server import serve
from controller.self_checks import Unwell

_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class HealthAnswers:
    """What is known of the health of a process; asked from other threads.

    Attributes:
        obstacle: Says why this process is not ready; empty when it is.
        unwell: Says what is unwell.
    """

    obstacle: Callable[[], str]
    unwell: Callable[[], Sequence[Unwell]] = tuple


@contextmanager
def serve_health(address: str, answers: HealthAnswers) -> Iterator[int]:
    """Serve /ping, /ready and /health at "host:port" for as long as the context lasts, and yield the port.

    Raises:
        Invalid: `healthcheck-address`: the address cannot be listened on.
    """

    class Handler(_Checks):
        def known(self) -> HealthAnswers:
            return answers

    with serve(address, Handler, key="healthcheck_address") as port:
        yield port


class _Checks(BaseHTTPRequestHandler):
    """Answers one check."""

    def known(self) -> HealthAnswers:
        """Return what is known of the process."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer with a status and a text."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with a status."""
        self._send(with_body=False)

    def log_message(self, *_: object) -> None:
        """Write nothing: a check comes every second."""

    def _send(self, *, with_body: bool) -> None:
        status, kind, text = self._answer()
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _answer(self) -> tuple[int, str, str]:
        match self.path.partition("?")[0]:
            case "/ping":
                return 200, _TEXT, "alive"
            case "/ready":
                why = self.known().obstacle()
                return (503, _TEXT, why) if why else (200, _TEXT, "active")
            case "/health":
                unwell = self.known().unwell()
                return 503 if unwell else 200, _JSON, json.dumps({"unwell": [_row(each) for each in unwell]})
            case _:
                return 404, _TEXT, "there are /ping, /ready and /health"


def _row(unwell: Unwell) -> dict[str, str]:
    since = datetime.fromtimestamp(unwell.since, UTC).isoformat(timespec="seconds")
    return {"check": unwell.check, "since": since.replace("+00:00", "Z"), "reason": unwell.reason}
