"""Decides which network addresses the requests to registries may reach.

Tenants choose image references and the copy runs in the platform's network, so an address outside
the public internet is reached only where the operator allows it. `dialling.py` makes the connections.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

_NAT64 = ip_network("64:ff9b::/96")


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address embeds, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet."""
    inner = _embedded(address)
    local = isinstance(inner, IPv6Address) and inner.is_site_local
    return inner.is_global and not (inner.is_multicast or inner.is_reserved or local)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The addresses that may be connected to; public ones always may.

    Attributes:
        allowed: Networks that the operator has allowed.
        everywhere: Any address may be connected to; the rule of the private registry.
    """

    allowed: tuple[Network, ...] = ()
    everywhere: bool = False

    def permits(self, text: str) -> bool:
        """Whether an address, written as a socket names its peer, may be connected to."""
        if self.everywhere:
            return True
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        candidates = (address, _embedded(address))
        return is_public(address) or any(
            candidate in network for network in self.allowed for candidate in candidates
        )


EVERYWHERE = AddressRules(everywhere=True)
