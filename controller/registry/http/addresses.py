"""Decides which network addresses the daemon may connect to on behalf of registries.

Tenants choose image references, and copies run in the platform's network. So an address outside the
public internet may be connected to only where the operator allows it, and for the registry alone that the
operator allows it for. `dialling.py` makes the connections.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from controller.registry.http.special_networks import GLOBAL_UNICAST, METADATA, SPECIAL_V4, SPECIAL_V6

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
_ENDS_IN_IPV4 = (
    _NAT64,
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("::/96"),
)


def same_host(address: Address) -> Address:
    """Return the IPv4 address that is reached by an IPv6 address, or the address itself.

    An IPv4-mapped address and one of the well-known NAT64 prefix lead to their IPv4 address and nowhere else.
    """
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def embedded(address: Address) -> Iterator[Address]:
    """Yield an address, and each IPv4 address that some relay or gateway may read out of it."""
    yield address
    if isinstance(address, IPv4Address):
        return
    if any(address in network for network in _ENDS_IN_IPV4):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        yield from address.teredo
    for found in (address.ipv4_mapped, address.sixtofour):
        if found is not None:
            yield found


def is_public(address: Address) -> bool:
    """Whether an address is that of an ordinary host in the public internet."""
    target = same_host(address)
    if target in METADATA:
        return False
    if isinstance(target, IPv4Address):
        return not any(target in network for network in SPECIAL_V4)
    return target in GLOBAL_UNICAST and not any(target in network for network in SPECIAL_V6)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The addresses that the sessions of one registry may connect to.

    Attributes:
        allowed: Networks that the operator has allowed for this registry. The address of a metadata service
            is allowed by its own address alone, and not by a network around it.
        denied: Networks that count as not public, in addition to the list.
        any_address: Whether every address may be connected to, as for the private registry.
    """

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()
    any_address: bool = False

    def permits(self, text: str) -> bool:
        """Whether an address may be connected to, given as text that may end in an IPv6 zone (`%eth0`)."""
        if self.any_address:
            return True
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        return self._is_allowed(address) or (is_public(address) and not self._is_denied(address))

    def _is_allowed(self, address: Address) -> bool:
        found = {address, same_host(address)}
        networks = [network for network in self.allowed if any(each in network for each in found)]
        if any(each in METADATA for each in embedded(address)):
            return any(network.num_addresses == 1 for network in networks)
        return bool(networks)

    def _is_denied(self, address: Address) -> bool:
        return any(each in network for network in self.denied for each in embedded(address))
