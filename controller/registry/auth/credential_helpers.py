"""Runs docker's credential helper programs to get the login for a registry.

Source: docker/docker-credential-helpers (the program `docker-credential-<name>` is run with `get`,
reads the server's name and writes JSON); helpers of cloud registries add `ExpiresAt`.
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
_LIFETIME = 300.0  # seconds that a login without an expiry is kept
_LIFETIME_OF_FAILURE = 30.0  # seconds
_MARGIN = 30.0  # seconds before its expiry at which a login is no longer used


@dataclass(slots=True)
class _CachedLogin:
    """The last login that one helper returned for one server."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    credentials: Credentials | None = field(default=None, repr=False)
    until: float = 0.0


class CredentialHelpers:
    """The logins of the helpers, kept while they are valid; safe to use from many threads.

    A helper that fails, is not installed or takes too long counts as one without a login: images
    that need none must stay usable.

    Args:
        time_limit: Seconds that a helper may take.
        clock: UTC seconds since 1970.
    """

    def __init__(self, time_limit: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._time_limit, self._clock = time_limit, clock
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], _CachedLogin] = {}

    def find(self, name: str, server: str, *, refused: Credentials | None = None) -> Credentials | None:
        """Get a server's login from a helper; None when it has none.

        Args:
            name: What follows `docker-credential-`.
            server: Its name for the helper.
            refused: A login that the server refused; if it is the kept one, the helper is run again.
        """
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            held = self._held.setdefault((name, server), _CachedLogin())
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
            response = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
            # Also "credentials not found in native keychain", which is an exit status and a text.
            return None, now + _LIFETIME_OF_FAILURE
        username, secret = (
            (response.get("Username"), response.get("Secret")) if isinstance(response, dict) else ("", "")
        )
        if not (isinstance(username, str) and isinstance(secret, str) and secret):
            return None, now + _LIFETIME_OF_FAILURE
        end = _timestamp(response.get("ExpiresAt"))
        until = now + _LIFETIME if end is None else max(end - _MARGIN, now)
        return Credentials(username, Secret(secret)), until


def _timestamp(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.year < 1971:  # Go's zero time
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
