"""Which addresses may be reached; that sockets obey is tested with the transport."""

from ipaddress import ip_network

import pytest

from controller.registry.http.addresses import AddressRules

REFUSED = [
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "no address",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_outside_the_public_internet_is_refused(address: str) -> None:
    assert not AddressRules().permits(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "100.128.0.1"])
def test_a_public_address_is_permitted(address: str) -> None:
    assert AddressRules().permits(address)


def test_an_allowed_network_is_permitted_and_no_other() -> None:
    rules = AddressRules((ip_network("10.1.0.0/16"), ip_network("fd00::/64")))

    assert rules.permits("10.1.2.3")
    assert rules.permits("::ffff:10.1.2.3")
    assert rules.permits("fd00::9")
    assert not rules.permits("10.2.0.1")


def test_the_private_registry_may_be_anywhere() -> None:
    assert AddressRules(any_address=True).permits("127.0.0.1")
