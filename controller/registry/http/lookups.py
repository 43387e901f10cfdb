"""Looks up the addresses of hosts within a time limit.

The system's resolver cannot be interrupted, and tenants choose the names: a lookup runs in a thread of
its own, is shared by all who want the same host, and is left behind when it takes too long.
"""

import ipaddress
import socket
import threading
from dataclasses import dataclass

from controller.threads import Cancellation

MOST_LOOKUPS = 256
"""Maximum number of lookups under way, including those that nobody waits for any more."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a host.

    Attributes:
        family: Of the socket that is needed.
        target: What the socket connects to.
    """

    family: socket.AddressFamily
    target: tuple[str | int, ...] | tuple[int, bytes]

    def __str__(self) -> str:
        return str(self.target[0])


class _Lookup:
    """A lookup that is under way; it has ended when it has addresses or an error."""

    def __init__(self) -> None:
        self.addresses: tuple[Address, ...] | None = None
        self.error: OSError | UnicodeError | None = None

    @property
    def has_ended(self) -> bool:
        return self.addresses is not None or self.error is not None


class Lookups:
    """The lookups of one pool of connections; safe to use from many threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._under_way: dict[tuple[str, int], _Lookup] = {}

    def find(self, host: str, port: int, seconds: float, cancellation: Cancellation) -> tuple[Address, ...]:
        """Return the addresses of a host, in the system's order.

        Raises:
            TimeoutError: The resolver took longer than so many seconds, or it is asked too much already.
            OSError: The name has no address.
            UnicodeError: The name cannot be looked up.
            Stopped: The work was cancelled.
        """
        if _is_address(host):
            return _look_up(host, port)
        with cancellation.waking(self._condition), self._condition:
            lookup = self._begin(host, port)
            self._condition.wait_for(lambda: lookup.has_ended or cancellation.is_cancelled, seconds)
        cancellation.check()
        if lookup.error is not None:
            raise lookup.error
        if lookup.addresses is None:
            raise TimeoutError(f"the address of {host} was not found in time")
        return lookup.addresses

    def _begin(self, host: str, port: int) -> _Lookup:
        key = host, port
        lookup = self._under_way.get(key)
        if lookup is None:
            if len(self._under_way) >= MOST_LOOKUPS:
                raise TimeoutError("too many names are being looked up")
            lookup = self._under_way[key] = _Lookup()
            thread = threading.Thread(
                target=self._run, args=(key, lookup), name="registry-lookup", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                del self._under_way[key]
                raise OSError("no thread could be started to look a name up") from error
        return lookup

    def _run(self, key: tuple[str, int], lookup: _Lookup) -> None:
        addresses: tuple[Address, ...] | None = None
        error: OSError | UnicodeError | None = None
        try:
            addresses = _look_up(*key)
        except (OSError, UnicodeError) as failure:
            error = failure
        with self._condition:
            lookup.addresses, lookup.error = addresses, error
            del self._under_way[key]
            self._condition.notify_all()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str, port: int) -> tuple[Address, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(Address(family, target) for family, _, _, _, target in found)
