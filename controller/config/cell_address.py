"""Tells whether cells accept an address as the registry in the name of an image.

Source: containers/image docker/reference/{regexp,normalize}.go, which grootfs of 2024 and 2026 reads names
with. It is older than Docker's own: it knows no IPv6 address, and tells a host by its dot or colon alone.
"""

import re

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?", re.ASCII)
_IPV6 = re.compile(r"\[.*\](?::[0-9]+)?|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*")
MAX_NAME = 255
"""Characters of address and repository together, at most."""


def why_cells_refuse(address: str) -> str | None:
    """Say why cells pull nothing from an address; None when they accept it."""
    if _IPV6.fullmatch(address):
        return "cells accept no IPv6 address: write a host name or an IPv4 address"
    if "_" in address:
        return "cells accept no '_' in a host name"
    if not _ADDRESS.fullmatch(address):
        return "cells accept a host name of letters, digits, '-' and '.', or an IPv4 address, and a port"
    if "." not in address and ":" not in address and address != "localhost":
        return "it is not read as a private registry: add its domain or port"
    return None
