"""Decides which network addresses the daemon may connect to on behalf of registries.

Tenants choose image references, and copies run in the platform's network. So an address outside the
public internet may be connected to only where the operator allows it. `dialling.py` makes the connections.
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
    target = _embedded(address)
    is_site_local = isinstance(target, IPv6Address) and target.is_site_local
    return target.is_global and not (target.is_multicast or target.is_reserved or is_site_local)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The addresses that may be connected to; public addresses are always among them.

    Attributes:
        allowed: Networks that the operator has allowed.
        any_address: Whether every address may be connected to, as for the private registry.
    """

    allowed: tuple[Network, ...] = ()
    any_address: bool = False

    def permits(self, text: str) -> bool:
        """Whether an address may be connected to, given as text that may end in an IPv6 zone (`%eth0`)."""
        if self.any_address:
            return True
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        candidates = (address, _embedded(address))
        return is_public(address) or any(
            candidate in network for network in self.allowed for candidate in candidates
        )


ANY_ADDRESS = AddressRules(any_address=True)
