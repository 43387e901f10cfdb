"""Says how the requests of a session reach a host: as its own registry, a host of that, or a foreign host.

A login, a client certificate and limits of traffic serve requests to the registry's own origin alone.
Its authorities serve the hosts that the operator has named for it as well. A foreign host, to which a
redirect, a realm, an upload location or a foreign layer leads, gets none of that; and it must not be another
registry that the operator has configured, which might know this machine by its address.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self

from controller.registry.http.settings import RegistrySettings, TlsFiles, api_url
from controller.registry.http.urls import Origin, parse_url
from reconcile.errors import ErrorCode, Invalid
from reconcile.hosts import DOCKER_HUB, HUB_ALIASES, canonical_host

_HOSTS_OF_HUB = ("auth.docker.io",)

_SYSTEM = TlsFiles()
_NO_ORIGIN = Origin("https", "", 443)  # no URL has it

Configured = Mapping[tuple[str, int], str]
"""Host and port of each configured registry, to its name in image references."""


@dataclass(frozen=True, slots=True)
class Route:
    """How one origin is reached by the requests of one session.

    Attributes:
        tls: The files of its TLS context.
        limits: The name under which the traffic to it is limited.
    """

    tls: TlsFiles
    limits: str


@dataclass(frozen=True, slots=True)
class Home:
    """The registry that a session was opened for.

    Attributes:
        name: The registry, as image references name it.
        origin: Where its API is.
        tls: The files of TLS contexts for its own origin.
        others: Origins that belong to it besides its own.
        configured: All configured registries.
    """

    name: str
    origin: Origin
    tls: TlsFiles = _SYSTEM
    others: frozenset[Origin] = frozenset()
    configured: Configured = field(default_factory=dict, repr=False)

    def includes(self, origin: Origin) -> bool:
        """Whether an origin is the registry's own, or one that the operator has named for it."""
        return origin == self.origin or origin in self.others

    def anonymous(self) -> Self:
        """Return the same home, without a client certificate, for requests that another host leads there."""
        return replace(self, tls=TlsFiles(self.tls.ca))

    def foreign(self) -> Self:
        """Return a home for requests to hosts that have nothing to do with the registry."""
        return replace(self, origin=_NO_ORIGIN, tls=_SYSTEM, others=frozenset())

    def route(self, origin: Origin) -> Route:
        """Return how an origin is reached.

        Raises:
            Invalid: `origin-refused`: it is another registry that is configured.
        """
        if origin == self.origin:
            return Route(self.tls, self.name)
        if origin in self.others:
            return Route(TlsFiles(self.tls.ca), str(origin))
        self.check_foreign(origin)
        return Route(_SYSTEM, str(origin))

    def check_foreign(self, origin: Origin) -> None:
        """Refuse an origin that is another registry's.

        Raises:
            Invalid: `origin-refused`.
        """
        owner = self.configured.get((origin.host, origin.port))
        if owner is not None and owner != self.name:
            detail = (
                f"{self.name} leads to {origin}, which is the registry {owner} of the config and no host of "
                f"{self.name} (name it in other_hosts, if it is one)"
            )
            raise Invalid("registry", ErrorCode.ORIGIN_REFUSED, detail)


def home_of(name: str, settings: RegistrySettings, configured: Configured) -> Home:
    """Describe the registry at a host.

    Raises:
        Invalid: `bad-url` when its port, or a host of it, is illegal.
    """
    named = (*settings.other_hosts, *(_HOSTS_OF_HUB if name == DOCKER_HUB else ()))
    schemes = ("http", "https") if settings.plain_http else ("https",)
    others = frozenset(parse_url(f"{scheme}://{host}/").origin for host in named for scheme in schemes)
    return Home(name, api_url(name, settings).origin, settings.tls, others, configured)


def configured_origins(registries: Iterable[tuple[str, RegistrySettings]]) -> Configured:
    """Name the registry at each host and port that is configured."""
    found = {}
    for address, settings in registries:
        name = canonical_host(address)
        with suppress(Invalid):  # no session can be opened for it either
            origin = api_url(name, settings).origin
            found[origin.host, origin.port] = name
            if name == DOCKER_HUB:
                found |= {(host, origin.port): name for host in HUB_ALIASES}
    return found
