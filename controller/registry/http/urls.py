"""Parses the URLs that registries send into an origin and a target, which keeps its exact bytes.

Upload sessions and signed storage URLs carry state in their query, so nothing here sorts, quotes or
normalises a query.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self
from urllib.parse import SplitResult, urljoin, urlsplit

from reconcile.errors import Invalid
from reconcile.hosts import canonical_name

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_LENGTH = 16384
_MAX_HOST = 255
_MAX_KNOWN = 300  # characters of a host and its port whose origin is remembered
_VISIBLE = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host in its one form, and port; an `Authorization` is valid for one origin."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _DEFAULT_PORTS[self.scheme] == self.port
        return f"{self.scheme}://{host}" if default else f"{self.scheme}://{host}:{self.port}"

    @property
    def domain(self) -> str:
        """Host and port, written as in an image reference."""
        return str(self).partition("://")[2]


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute URL; `str` leaves the query out, since it may hold a signature.

    Attributes:
        target: Path and query as the request line holds them.
    """

    origin: Origin
    target: str

    def __str__(self) -> str:
        return f"{self.origin}{self.target.partition('?')[0]}"

    @property
    def complete(self) -> str:
        """The whole URL, query included."""
        return f"{self.origin}{self.target}"

    def join(self, location: str) -> Self:
        """Resolve a `Location` or a realm against this URL.

        Raises:
            Invalid: `bad-url`.
        """
        checked = _checked(location)
        try:
            joined = urljoin(self.complete, checked)
        except ValueError as error:
            raise Invalid("registry", "bad-url", "the registry named a URL with an illegal host") from error
        return type(self)(*_split(joined))

    def with_parameters(self, text: str) -> Self:
        """Append encoded parameters to the query, leaving what stands there as it is."""
        separator = "&" if "?" in self.target else "?"
        return type(self)(self.origin, f"{self.target}{separator}{text}" if text else self.target)


def _checked(text: str) -> str:
    if len(text) > _MAX_LENGTH or not _VISIBLE.fullmatch(text):
        raise Invalid("registry", "bad-url", "the registry named a URL with illegal characters")
    return text


def _split(text: str) -> tuple[Origin, str]:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise Invalid("registry", "bad-url", "a URL has an illegal host or port") from error
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    origin_of = _known_origin if len(parts.netloc) <= _MAX_KNOWN else _origin
    return origin_of(parts.scheme, parts.netloc), target


def _origin(scheme: str, netloc: str) -> Origin:
    parts = SplitResult(scheme, netloc, "", "", "")
    try:
        port = parts.port
    except ValueError as error:
        raise Invalid("registry", "bad-url", "a URL has an illegal host or port") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise Invalid("registry", "bad-url", "a URL is neither http nor https, or has no host")
    if len(parts.hostname) > _MAX_HOST:
        raise Invalid("registry", "bad-url", f"a URL has a host of more than {_MAX_HOST} characters")
    if parts.username is not None or parts.password is not None:
        raise Invalid("registry", "bad-url", f"a URL for {parts.hostname} carries a user name")
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if not 0 < port < 65536:
        raise Invalid("registry", "bad-url", f"{parts.hostname} has port {port}, which cannot be dialled")
    host = canonical_name(f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname)
    if not host:
        raise Invalid("registry", "bad-url", "a URL has a host of dots alone")
    return Origin(parts.scheme, host.strip("[]"), port)


_known_origin = lru_cache(maxsize=1024)(_origin)
"""The origin of a URL, remembered: a copy's URLs have a few. One that is refused is not."""


def parse_url(text: str) -> Url:
    """Read an absolute http or https URL.

    Raises:
        Invalid: `bad-url`.
    """
    return Url(*_split(_checked(text)))
