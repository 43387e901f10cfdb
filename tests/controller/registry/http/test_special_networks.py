"""No address of a special range is public, row by row of IANA's registries, whatever Python's own table says."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.registry.http.addresses import AddressRules, Network, is_public
from controller.registry.http.special_networks import METADATA, SPECIAL_V4, SPECIAL_V6

# IANA IPv4 and IPv6 Special-Purpose Address Registries, in their order, blocks within blocks included.
IANA_V4 = [
    "0.0.0.0/8",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/32",
    "192.0.0.171/32",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.88.99.2/32",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
]
IANA_V6 = [
    "::1/128",
    "::/128",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
]
NOT_UNICAST = ["224.0.0.0/4", "ff00::/8", "fec0::/10", "::/96", "::ffff:0:0:0/96", "4000::/3", "e000::/4"]
CLOUDS = [
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::a9fe:a9fe",
]
JUDGED_BY_IPV4 = {"::ffff:0:0/96", "64:ff9b::/96"}
"""Blocks whose addresses are as public as the IPv4 address at their end."""


def some_of(network: Network) -> Iterator[str]:
    """Yield the first, the last and a few other addresses of a network."""
    size = network.num_addresses
    for at in sorted({0, 1, size // 3, size // 2, size - 2, size - 1}):
        if 0 <= at < size:
            yield str(network[at])


@pytest.mark.parametrize(
    "row", [*IANA_V4, *NOT_UNICAST, *(row for row in IANA_V6 if row not in JUDGED_BY_IPV4)]
)
def test_no_address_of_a_special_block_is_public(row: str) -> None:
    assert [each for each in some_of(ip_network(row)) if AddressRules().permits(each)] == []


@pytest.mark.parametrize("block", sorted(JUDGED_BY_IPV4))
def test_an_embedded_address_is_as_public_as_itself(block: str) -> None:
    network = IPv6Network(block)
    within = [
        network[int(IPv4Address(text))] for text in ("10.0.0.1", "127.0.0.1", "168.63.129.16", "0.0.0.0")
    ]

    assert not any(is_public(each) for each in within)
    assert is_public(network[int(IPv4Address("8.8.8.8"))])


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:169.254.169.254",  # IPv4-mapped
        "::ffff:0:169.254.169.254",  # IPv4-translated
        "::169.254.169.254",  # IPv4-compatible
        "64:ff9b::a9fe:a9fe",  # NAT64
        "64:ff9b:1::a9fe:a9fe",  # NAT64 of one network
        "2002:a9fe:a9fe::1",  # 6to4
        "2001:0:a9fe:a9fe::1",  # Teredo, as its server
        f"2001:0:4136:e378:8000:63bf:{0xA9FE ^ 0xFFFF:x}:{0xA9FE ^ 0xFFFF:x}",  # Teredo, as its client
        "2002:808:808::1",  # 6to4 of a public address: no registry is behind a relay
    ],
)
def test_a_form_of_ipv6_that_holds_an_ipv4_address_opens_nothing(address: str) -> None:
    assert not AddressRules().permits(address)
    assert not AddressRules((ip_network("169.254.0.0/16"),)).permits(address)


@pytest.mark.parametrize("address", CLOUDS)
def test_the_services_of_clouds_for_their_machines_are_not_public(address: str) -> None:
    assert ip_address(address) in METADATA
    assert not AddressRules().permits(address)


@pytest.mark.parametrize("address", [str(each) for each in METADATA])
def test_a_network_around_a_metadata_service_does_not_allow_it(address: str) -> None:
    wide = ip_network(f"{address}/16", strict=False)

    assert not AddressRules((wide,)).permits(address)
    assert AddressRules((wide, ip_network(address))).permits(address)


@pytest.mark.parametrize(
    "address",
    [
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.15",
        "168.63.129.17",
        "1.1.1.1",
        "2606:4700::1111",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::",
        "2003::1",
        "2620:4f:7fff::1",
        "2620:4f:8001::",
        "3ffe::1",
        "3fff:1000::",
        "2a00::1",
    ],
)
def test_what_lies_beside_a_special_block_is_public(address: str) -> None:
    assert AddressRules().permits(address)


@given(st.sampled_from(list(SPECIAL_V4)), st.integers(min_value=0))
def test_any_address_of_a_block_of_ipv4_is_refused(network: Network, at: int) -> None:
    assert not is_public(network[at % network.num_addresses])


@given(
    st.sampled_from([each for each in SPECIAL_V6 if str(each) not in JUDGED_BY_IPV4]),
    st.integers(min_value=0),
)
def test_any_address_of_a_block_of_ipv6_is_refused(network: Network, at: int) -> None:
    assert not is_public(network[at % network.num_addresses])


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_a_public_address_of_ipv6_is_one_of_global_unicast(value: int) -> None:
    address = IPv6Address(value)

    assert (
        not is_public(address) or address in IPv6Network("2000::/3") or address in IPv6Network("64:ff9b::/96")
    )


# The operator's networks


@pytest.mark.parametrize("address", ["8.8.4.4", "::ffff:8.8.4.4", "64:ff9b::808:404"])
def test_a_denied_network_is_denied_in_every_form(address: str) -> None:
    assert AddressRules().permits(address)
    assert not AddressRules(denied=(ip_network("8.8.0.0/16"),)).permits(address)


def test_a_denied_network_of_ipv6_is_denied() -> None:
    rules = AddressRules(denied=(ip_network("2606:4700::/32"),))

    assert (rules.permits("2606:4700::1111"), rules.permits("2606:4701::1111")) == (False, True)


def test_what_a_registry_is_allowed_counts_more_than_what_is_denied_to_all() -> None:
    rules = AddressRules((ip_network("8.8.8.8/32"),), denied=(ip_network("8.8.0.0/16"),))

    assert (rules.permits("8.8.8.8"), rules.permits("8.8.8.9")) == (True, False)


def test_a_zone_changes_nothing() -> None:
    assert not AddressRules().permits("fe80::a9fe:a9fe%eth0")
    assert AddressRules((ip_network("fe80::/10"),)).permits("fe80::1%eth0")
