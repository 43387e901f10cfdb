"""Checks the address of the BBS, without importing the HTTP client that is to open it."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from reconcile.errors import Invalid

_LABEL = r"[A-Za-z0-9_-]{1,63}"
_PLAIN = re.compile(
    rf"https://(?:\[(?P<ipv6>[^\]]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*\.?))(?::(?P<port>[0-9]{{1,5}}))?/?"
)
_HIGHEST_PORT = 65535

_LIKE_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_ENCODED = "xn--"
"""The HTTP client decodes a name that begins so, and raises an error where it cannot."""


def check_address(address: str) -> None:
    """Refuse a text that cannot be the address of a BBS.

    Raises:
        Invalid: It is not a plain https URL, or the HTTP client could not open it.
    """
    if not _is_plain(address):
        raise Invalid("config", "bad-address", f"{address}: write https://host:port")


def _is_plain(address: str) -> bool:
    parts = _PLAIN.fullmatch(address)
    if parts is None or not 0 < int(parts["port"] or 1) <= _HIGHEST_PORT:
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
