"""Parses the URLs of Cloud Controller's API and of UAA into origins, without importing the HTTP client."""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from reconcile.errors import Invalid

_LABEL = r"[A-Za-z0-9_-]{1,63}"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?:\[(?P<ipv6>[0-9A-Fa-f:.]{{2,45}})\]|(?P<name>{_LABEL}(?:\.{_LABEL}){{0,63}}\.?))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[\x21-\x7e]{0,8192})?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65535
_LIKE_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_ENCODED = "xn--"
"""The HTTP client decodes a name that begins so, and raises an error where it cannot."""


@dataclass(frozen=True, slots=True)
class ApiOrigin:
    """Scheme, host in small letters, and port of a URL."""

    scheme: str
    host: str
    port: int

    @property
    def has_tls(self) -> bool:
        """Whether what is sent there is protected."""
        return self.scheme == "https"


def parse_origin(url: str) -> ApiOrigin:
    """Read the origin of a URL that a person or an API wrote.

    Raises:
        Invalid: It is no URL that the HTTP client could open, or it has a login in it.
    """
    parts = _URL.fullmatch(url)
    if parts is not None and _can_be_opened(parts):
        host = (parts["name"] or parts["ipv6"]).lower()
        return ApiOrigin(parts["scheme"], host, int(parts["port"] or _DEFAULT_PORTS[parts["scheme"]]))
    raise Invalid("config", "bad-address", f"{url}: write https://host or https://host:port")


def _can_be_opened(parts: re.Match[str]) -> bool:
    if not 0 < int(parts["port"] or 1) <= _HIGHEST_PORT:
        return False
    name = parts["name"]
    try:
        if name is None:
            IPv6Address(parts["ipv6"])
        elif _LIKE_IPV4.fullmatch(name):
            IPv4Address(name)
    except AddressValueError:
        return False
    return name is None or not name.lower().startswith(_ENCODED)
