"""Lists the networks in which no source registry is, and says what each of them is for.

The list is our own, so that it does not depend on the version of the interpreter. It holds every block of the
special-purpose registries, also those that are reachable from everywhere: relays and sinks serve no images.

Source: IANA IPv4 Special-Purpose Address Registry, IANA IPv6 Special-Purpose Address Registry, IANA IPv4
Address Space Registry (multicast), RFC 3879 (site-local), and the documents of the clouds on their metadata
services. In IPv6, only 2000::/3 is assigned to ordinary hosts (RFC 4291).
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

GLOBAL_UNICAST = IPv6Network("2000::/3")

SPECIAL_V4: Mapping[IPv4Network, str] = {
    IPv4Network(network): use
    for network, use in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private use",
        "100.64.0.0/10": "shared address space of carriers",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private use",
        "192.0.0.0/24": "IETF protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.31.196.0/24": "AS112",
        "192.52.193.0/24": "AMT relays",
        "192.88.99.0/24": "6to4 relays",
        "192.168.0.0/16": "private use",
        "192.175.48.0/24": "AS112",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}

SPECIAL_V6: Mapping[IPv6Network, str] = {
    IPv6Network(network): use
    for network, use in {
        "::/128": "unspecified",
        "::1/128": "loopback",
        "::/96": "IPv4-compatible",
        "::ffff:0:0/96": "IPv4-mapped",
        "::ffff:0:0:0/96": "IPv4-translated",
        "64:ff9b::/96": "NAT64",
        "64:ff9b:1::/48": "NAT64 of one network",
        "100::/64": "discard",
        "100:0:0:1::/64": "dummy",
        "2001::/23": "IETF protocol assignments, Teredo among them",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",
        "2620:4f:8000::/48": "AS112",
        "3fff::/20": "documentation",
        "5f00::/16": "segment routing",
        "fc00::/7": "unique local",
        "fe80::/10": "link-local",
        "fec0::/10": "site-local",
        "ff00::/8": "multicast",
    }.items()
}

METADATA: Mapping[IPv4Address | IPv6Address, str] = {
    IPv4Address("168.63.129.16"): "services of Azure for its virtual machines",
    IPv4Address("100.100.100.200"): "metadata of Alibaba Cloud",
    IPv4Address("169.254.0.23"): "metadata of Tencent Cloud",
    IPv4Address("169.254.169.253"): "name server of AWS",
    IPv4Address("169.254.169.254"): "metadata of most clouds",
    IPv4Address("169.254.170.2"): "credentials of AWS containers",
    IPv4Address("169.254.170.23"): "credentials of AWS pods",
    IPv4Address("192.0.0.192"): "metadata of Oracle Cloud",
    IPv6Address("fd00:ec2::23"): "credentials of AWS pods",
    IPv6Address("fd00:ec2::253"): "name server of AWS",
    IPv6Address("fd00:ec2::254"): "metadata of AWS",
    IPv6Address("fd20:ce::254"): "metadata of Google Cloud",
    IPv6Address("fe80::a9fe:a9fe"): "metadata of OpenStack",
}
"""Addresses at which clouds tell a machine its secrets; a network that holds one does not allow it."""
