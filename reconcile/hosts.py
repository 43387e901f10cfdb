"""Writes the host of a registry in one form, so that two spellings of one host are equal.

Everything that compares hosts does so in this form: policy, logins, limits of traffic, bindings, and whether
a reference names the private registry. What cells pull from keeps its own spelling.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

DOCKER_HUB = "docker.io"
HUB_API = "registry-1.docker.io"
HUB_ALIASES = frozenset({"", DOCKER_HUB, "index.docker.io", HUB_API, "registry.hub.docker.com"})

DEFAULT_PORT = "443"
_MAX_LENGTH = 300
_PORT = re.compile(r":([0-9]+)\Z", re.ASCII)
_PART = re.compile(r"0x[0-9a-f]{1,8}|[0-9]{1,12}", re.ASCII)


def is_host(head: str) -> bool:
    """Whether the text before a reference's first slash names a host, and not a namespace of Docker Hub."""
    return "." in head or ":" in head or head == "localhost" or head != head.lower()


def canonical_host(text: str) -> str:
    """Write a host with an optional port in its one form.

    That is: small letters, no dot at the end, no leading zeros in the port, no port 443, `docker.io` for all
    names of Docker Hub, and IP addresses as `ipaddress` writes them. The port 443 stays where the host alone
    would be read as a namespace of Docker Hub.
    """
    return _canonical(text) if len(text) <= _MAX_LENGTH else text.lower()


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    found = _PORT.search(text)
    # In an IPv6 address without brackets the last group is no port.
    if found is not None and ":" in text[: found.start()] and not text[: found.start()].endswith("]"):
        found = None
    host = canonical_name(text if found is None else text[: found.start()])
    port = DEFAULT_PORT if found is None else (found[1].lstrip("0") or "0")
    if port != DEFAULT_PORT:
        return f"{host}:{port}"
    if host in HUB_ALIASES:
        return DOCKER_HUB
    return host if found is None or is_host(host) else f"{host}:{port}"


def canonical_name(text: str) -> str:
    """Write a host without a port in its one form; an IPv6 address keeps its brackets."""
    name = text.lower()
    if name.startswith("[") and name.endswith("]"):
        return f"[{_ipv6(name[1:-1])}]"
    if ":" in name:
        return _ipv6(name)
    name = name.rstrip(".")
    return _ipv4(name) or name


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except AddressValueError:
        return text


def _ipv4(name: str) -> str | None:
    """Read an IPv4 address in any spelling that resolvers accept: fewer parts, octal, or hexadecimal.

    Source: POSIX inet_addr, which getaddrinfo follows.
    """
    parts = name.split(".", 4)
    if len(parts) > 4 or not all(_PART.fullmatch(part) for part in parts):
        return None
    try:
        *first, last = [int(part, _base_of(part)) for part in parts]
    except ValueError:  # a digit that is not octal
        return None
    if any(number > 255 for number in first) or last >= 256 ** (5 - len(parts)):
        return None
    value = last
    for at, number in enumerate(first):
        value += number << (24 - 8 * at)
    return str(IPv4Address(value))


def _base_of(part: str) -> int:
    if part.startswith("0x"):
        return 16
    return 8 if part.startswith("0") and part != "0" else 10
