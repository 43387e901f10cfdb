"""Asks docker's credential helpers, which are programs of their own, for the login of a registry.

Source: docker/docker-credential-helpers (the program `docker-credential-<name>` is run with `get`,
reads the server's name and answers with JSON); `ExpiresAt` is what helpers of cloud registries add.
"""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reconcile.lrps import Credentials, Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LIFE = 300.0  # seconds that an answer without an end is kept
_LIFE_OF_FAILURE = 30.0  # seconds
_MARGIN = 30.0  # seconds before its end at which a login is no longer used


@dataclass(slots=True)
class _Held:
    """One helper's last answer about one server."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    credentials: Credentials | None = field(default=None, repr=False)
    until: float = 0.0


class CredentialHelpers:
    """The helpers' answers, kept while they are good; safe to use from many threads.

    A helper that fails, is not installed or takes too long knows no login: that must not stand
    in the way of images that need none.

    Args:
        time_limit: Seconds that a helper may take.
        clock: UTC seconds since 1970.
    """

    def __init__(self, time_limit: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._time_limit, self._clock = time_limit, clock
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], _Held] = {}

    def find(self, name: str, server: str, *, refused: Credentials | None = None) -> Credentials | None:
        """Ask a helper about a server; None when it knows no login.

        Args:
            name: What follows `docker-credential-`.
            server: As the helper knows it.
            refused: A login that was not accepted: the kept answer is no good if it is this one.
        """
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            held = self._held.setdefault((name, server), _Held())
        with held.lock:
            is_refused = refused is not None and held.credentials == refused
            if is_refused or self._clock() >= held.until:
                held.credentials, held.until = self._run(name, server)
            return held.credentials

    def _run(self, name: str, server: str) -> tuple[Credentials | None, float]:
        now = self._clock()
        try:
            done = subprocess.run(  # noqa: S603 - the operator's file names it, and its name is checked
                [f"docker-credential-{name}", "get"],
                input=server.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._time_limit,
                check=True,
            )
            answer = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
            # Also "credentials not found in native keychain", which is an exit status and a text.
            return None, now + _LIFE_OF_FAILURE
        username, secret = (
            (answer.get("Username"), answer.get("Secret")) if isinstance(answer, dict) else ("", "")
        )
        if not (isinstance(username, str) and isinstance(secret, str) and secret):
            return None, now + _LIFE_OF_FAILURE
        end = _moment(answer.get("ExpiresAt"))
        until = now + _LIFE if end is None else max(end - _MARGIN, now)
        return Credentials(username, Secret(secret)), until


def _moment(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.year < 1971:  # Go's way of saying nothing
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
