"""Names bridges: LRPs of ours that serve an app while its own LRP is removed and desired again.

A bridge is in a domain of its own, which Cloud Controller does not look at, and its process GUID
tells whose bridge it is, so that one that was left behind can be understood without any record.
"""

from reconcile.lrps import ProcessGuid

BRIDGE_DOMAIN = "docker-cache-bridge"

BRIDGE_DOMAIN_TTL = 120
"""Seconds for which the domain is kept fresh at a time; convergence stops surplus instances only there."""

_PREFIX = "docker-cache-bridge-"

MAX_PROCESS_GUID = 255
"""Characters of the BBS's column; Cloud Controller's process GUIDs have 73.

Source: cloudfoundry/bbs db/sqldb/migrations, models/validator.go.
"""


def can_have_bridge(process_guid: ProcessGuid) -> bool:
    """Whether the name of an LRP's bridge is short enough for the BBS."""
    return len(_PREFIX) + len(process_guid) <= MAX_PROCESS_GUID


def bridge_of(process_guid: ProcessGuid) -> ProcessGuid:
    """Name the bridge of an LRP."""
    return ProcessGuid(f"{_PREFIX}{process_guid}")


def is_bridge(process_guid: ProcessGuid) -> bool:
    """Whether a process GUID names a bridge."""
    return process_guid.startswith(_PREFIX)


def original_of(bridge: ProcessGuid) -> ProcessGuid:
    """Name the LRP that a bridge stands in for."""
    return ProcessGuid(bridge.removeprefix(_PREFIX))
