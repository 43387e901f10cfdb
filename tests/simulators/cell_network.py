"""How one cell reaches registries: what a test lets go wrong on the way, and what went over the wire.

A condition holds for a host as it stands in a rootfs, until it is changed; "*" stands for every host.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

EVERY_HOST = "*"


@dataclass(frozen=True, slots=True)
class Refused:
    """Connections are refused."""


@dataclass(frozen=True, slots=True)
class UnknownHost:
    """The name is not known."""


@dataclass(frozen=True, slots=True)
class NotInsecure:
    """The registry speaks plain HTTP, and the cell does not list it as insecure."""


@dataclass(frozen=True, slots=True)
class UnknownAuthority:
    """The registry's certificate is of an authority that the cell does not trust."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Requests for manifests and blobs are answered with an error status.

    Attributes:
        status: 401, 403, 404, 429, 500 or another.
        message: The registry's own words; empty for the usual ones of that status.
    """

    status: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Hangs:
    """Requests are taken and never answered, until the condition changes: then they are made again.

    Attributes:
        layers_only: Whether manifests and configs are answered.
    """

    layers_only: bool = False


@dataclass(frozen=True, slots=True)
class Slow:
    """Layers come late or slowly.

    Attributes:
        seconds: From the request of each layer to its first byte; of a whole image where nothing is pulled.
        bytes_per_second: After that; None for as fast as they come.
    """

    seconds: float = 0.0
    bytes_per_second: float | None = None


Condition = Refused | UnknownHost | NotInsecure | UnknownAuthority | ErrorResponse | Hangs | Slow


@dataclass(slots=True)
class RequestCounts:
    """What a cell asked of one registry.

    Attributes:
        requests: By what they were for: "ping", "token", "manifest", "config" or "layer".
        bytes: Of the answers' bodies.
    """

    requests: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


class CellNetwork:
    """What one cell sees of the registries.

    Attributes:
        counts: Host as in a rootfs to what was asked of it.
    """

    def __init__(self) -> None:
        self.counts: dict[str, RequestCounts] = {}
        self._conditions: dict[str, Condition] = {}
        self._changed = asyncio.Event()

    def impose(self, host: str, condition: Condition) -> None:
        """Let something go wrong from now on."""
        self._conditions[host] = condition
        self._announce()

    def mend(self, host: str | None = None) -> None:
        """Let a host be reached again; None means all."""
        if host is None:
            self._conditions.clear()
        else:
            self._conditions.pop(host, None)
        self._announce()

    def condition(self, host: str) -> Condition | None:
        """Look up what goes wrong with a host; None if nothing does."""
        return self._conditions.get(host) or self._conditions.get(EVERY_HOST)

    def count(self, host: str, what: str, size: int = 0) -> None:
        """Count one request, or with a size the bytes of an answer."""
        counts = self.counts.setdefault(host, RequestCounts())
        if size:
            counts.bytes += size
        else:
            counts.requests[what] += 1

    def requests(self, host: str, what: str | None = None) -> int:
        """Tell how many requests a host was sent; None counts those of all kinds."""
        sent = self.counts.get(host, RequestCounts()).requests
        return sent.total() if what is None else sent[what]

    async def pass_hanging(self, host: str, *, layer: bool) -> None:
        """Wait for as long as requests to a host hang."""
        while isinstance(found := self.condition(host), Hangs) and (layer or not found.layers_only):
            await self._changed.wait()

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
