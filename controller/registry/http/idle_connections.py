"""Keeps connections between requests, bounded in number and in time.

Those that were used least recently go first, and those that a server has closed go when that is noticed:
when somebody would use them, and at regular looks at all of them.
"""

import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from controller.registry.http.addresses import AddressRules
from controller.registry.http.connection import Connection
from controller.registry.http.settings import TlsFiles
from controller.registry.http.urls import Origin

MOST_PER_KEY = 16
MOST_IDLE = 128
"""Maximum number of idle connections of a pool: tenants name the hosts, and each is an open file."""

IDLE_SECONDS = 60.0
"""Maximum number of seconds that a connection is idle: many servers close it after a minute."""

LOOK_AFTER = 5.0
"""Seconds between two looks at all of them."""


@dataclass(frozen=True, slots=True)
class ConnectionKey:
    """What the requests that may share a connection have in common; `tls` is None for an http origin."""

    origin: Origin
    rules: AddressRules
    files: TlsFiles
    tls: ssl.SSLContext | None


class _Group:
    """The idle connections that the same requests may share, the one used last at the end."""

    def __init__(self, key: ConnectionKey) -> None:
        self.key = key
        self.connections: list[Connection] = []


class IdleConnections:
    """The idle connections of one pool; safe to use from many threads.

    Args:
        call_after: Calls a function after so many seconds.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        call_after: Callable[[float, Callable[[], None]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_after, self._clock = call_after, clock
        self._lock = threading.Lock()
        self._since: OrderedDict[Connection, tuple[_Group, float]] = OrderedDict()
        self._groups: dict[Origin, list[_Group]] = {}
        self._is_looked_at = self._is_closed = False

    def __len__(self) -> int:
        return len(self._since)

    def keep(self, key: ConnectionKey, connection: Connection) -> None:
        """Keep a connection, or close it where there are enough for the same requests."""
        surplus: Connection | None = connection
        begins = False
        with self._lock:
            groups = self._groups.setdefault(key.origin, [])
            group = _find(groups, key)
            if group is None:
                group = _Group(key)
                groups.append(group)
            if not self._is_closed and len(group.connections) < MOST_PER_KEY:
                group.connections.append(connection)
                self._since[connection] = group, self._clock()
                begins, self._is_looked_at = not self._is_looked_at, True
                surplus = next(iter(self._since)) if len(self._since) > MOST_IDLE else None
                if surplus is not None:
                    self._remove(surplus)
        if surplus is not None:
            surplus.close()
        if begins:
            self._call_after(LOOK_AFTER, self._look)

    def take(self, key: ConnectionKey) -> Connection | None:
        """Take the connection that was used last; None when there is none that the server has left open.

        Those that were opened before the certificates of their origin changed are closed.
        """
        while True:
            with self._lock:
                groups = self._groups.get(key.origin, ())
                outdated = self._remove_outdated(groups, key)
                group = _find(groups, key)
                connection = group.connections[-1] if group is not None and group.connections else None
                if connection is not None:
                    self._remove(connection)
            _close(outdated)
            if connection is None or connection.is_connected:
                return connection
            connection.close()

    def close_all(self) -> int:
        """Close all of them, and return their number."""
        with self._lock:
            connections = list(self._since)
            self._since.clear()
            self._groups.clear()
        _close(connections)
        return len(connections)

    def close(self) -> None:
        """Close all of them, and keep none from now on."""
        with self._lock:
            self._is_closed = True
        self.close_all()

    def _look(self) -> None:
        """Close those that were idle for too long or that the server has closed."""
        with self._lock:
            before = self._clock() - IDLE_SECONDS
            gone = [
                connection
                for connection, (_, since) in self._since.items()
                if since <= before or not connection.is_connected
            ]
            for each in gone:
                self._remove(each)
            self._forget_empty_groups()
            self._is_looked_at = bool(self._since)
            goes_on = self._is_looked_at
        _close(gone)
        if goes_on:
            self._call_after(LOOK_AFTER, self._look)

    def _remove_outdated(self, groups: Sequence[_Group], key: ConnectionKey) -> list[Connection]:
        outdated = list[Connection]()
        for group in groups:
            if group.key.tls is not key.tls and group.key.files == key.files:
                outdated += group.connections
        for each in outdated:
            self._remove(each)
        return outdated

    def _remove(self, connection: Connection) -> None:
        group, _ = self._since.pop(connection)
        group.connections.remove(connection)  # a group without any is forgotten at the next look

    def _forget_empty_groups(self) -> None:
        for origin, groups in [*self._groups.items()]:
            groups[:] = [each for each in groups if each.connections]
            if not groups:
                del self._groups[origin]


def _find(groups: Iterable[_Group], key: ConnectionKey) -> _Group | None:
    """Find the group for a request among those of its origin, which are few."""
    for group in groups:
        own = group.key
        if (
            own.tls is key.tls
            and (own.files is key.files or own.files == key.files)
            and (own.rules is key.rules or own.rules == key.rules)
        ):
            return group
    return None


def _close(connections: Iterable[Connection]) -> None:
    for each in connections:
        each.close()
