"""Runs Docker's credential helpers, which are programs, to get the login for a registry.

Source: docker/docker-credential-helpers (the program `docker-credential-<name>` is run with `get`,
reads the server's name from standard input and writes JSON); helpers of cloud registries add
`ExpiresAt`.
"""

import json
import re
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reconcile.lrps import Credentials, Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LIFETIME = 300.0  # seconds for which a login without an expiry is cached
_FAILURE_LIFETIME = 30.0  # seconds after a failure before the helper is run again
MOST_SERVERS = 1_000
"""Logins that are cached; with `credsStore` there is one for each host that images of apps name."""

_MARGIN = 30.0  # seconds before its expiry at which a login is no longer used


@dataclass(slots=True)
class _CachedLogin:
    """The last result of one helper for one server, and the lock under which the helper is run."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    credentials: Credentials | None = field(default=None, repr=False)
    use_until: float = 0.0


class CredentialHelpers:
    """The logins of credential helpers, cached while they are valid; safe to use from many threads.

    A helper that fails, is not installed or takes too long is treated as if it had no login, so that
    images that need no login stay usable.

    Args:
        time_limit: Seconds that a helper may take.
        clock: UTC seconds since 1970.
    """

    def __init__(self, time_limit: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        self._time_limit, self._clock = time_limit, clock
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str], _CachedLogin] = OrderedDict()

    def find(self, name: str, server: str, *, refused: Credentials | None = None) -> Credentials | None:
        """Get the login for a server from a helper; None when the helper has none.

        Args:
            name: The name of the helper: the program is `docker-credential-<name>`.
            server: The name by which the helper knows the server.
            refused: A login that the server refused; if it is the cached one, or the helper had none, the
                helper is run again.
        """
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            cached = self._cache.setdefault((name, server), _CachedLogin())
            self._cache.move_to_end((name, server))
            if len(self._cache) > MOST_SERVERS:
                self._cache.popitem(last=False)
        with cached.lock:
            is_refused = refused is not None and cached.credentials in {None, refused}
            if is_refused or self._clock() >= cached.use_until:
                cached.credentials, cached.use_until = self._run(name, server)
            return cached.credentials

    def _run(self, name: str, server: str) -> tuple[Credentials | None, float]:
        now = self._clock()
        try:
            completed = subprocess.run(  # noqa: S603 - the operator's file names the program, and the name is checked
                [f"docker-credential-{name}", "get"],
                input=server.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._time_limit,
                check=True,
            )
            response = json.loads(completed.stdout)
        except (OSError, subprocess.SubprocessError, ValueError, RecursionError):
            # A helper that has no login also exits with an error.
            return None, now + _FAILURE_LIFETIME
        username, secret = (
            (response.get("Username"), response.get("Secret")) if isinstance(response, dict) else ("", "")
        )
        if not (isinstance(username, str) and isinstance(secret, str) and secret):
            return None, now + _FAILURE_LIFETIME
        expiry = _timestamp(response.get("ExpiresAt"))
        use_until = now + _LIFETIME if expiry is None else max(expiry - _MARGIN, now)
        return Credentials(username, Secret(secret)), use_until


def _timestamp(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.year < 1971:  # Go's zero time means that there is no expiry
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
