"""Names bridges: temporary second LRPs that serve an app while its own LRP is removed and desired again.

Bridges are in a domain of their own, which Cloud Controller does not sync. A bridge's process GUID contains
that of its app's LRP, so that an orphaned bridge can be recognised without any record.
"""

from reconcile.lrps import ProcessGuid

BRIDGE_DOMAIN = "docker-cache-bridge"

BRIDGE_DOMAIN_TTL = 120
"""Seconds for which the domain is made fresh at a time; only in a fresh domain does convergence stop surplus
instances."""

BRIDGE_TAG = "docker_cache_bridge"
"""Metric tag that bridges have in addition to those of their apps, so that what they log and measure, and the
requests that routers report of them, can be told apart. Nothing looks an app up by it."""

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
    """Name the LRP that a bridge serves for."""
    return ProcessGuid(bridge.removeprefix(_PREFIX))
