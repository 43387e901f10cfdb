"""Remembers of which staging a droplet came, as far as Cloud Controller does not show it with the droplet."""

from collections import OrderedDict
from dataclasses import dataclass

from reconcile.droplets import BuildGuid, DropletGuid

REMEMBERED = 50_000
"""Droplets whose stagings are remembered; the records know the builds of all that were looked at."""


@dataclass(frozen=True, slots=True)
class KnownStaging:
    """What is known of a staging.

    Attributes:
        build_guid: Of its build, and of its task.
        username: Of the login that its task had for the source registry; empty for none, or if not known.
        placement_tags: Those that its task had; None where the task was not seen.
        ended_at: When its task ended, by the process's clock that nobody sets; None where that was not seen.
    """

    build_guid: BuildGuid
    username: str = ""
    placement_tags: frozenset[str] | None = None
    ended_at: float | None = None


class KnownStagings:
    """The stagings of droplets that were followed or listed lately."""

    def __init__(self) -> None:
        self._stagings: OrderedDict[DropletGuid, KnownStaging] = OrderedDict()
        self._unknown: OrderedDict[DropletGuid, None] = OrderedDict()

    def put(self, guid: DropletGuid, staging: KnownStaging) -> None:
        """Remember the staging of a droplet; one whose task was seen is known better than a listed one."""
        known = self._stagings.pop(guid, None)
        is_better = known is not None and known.ended_at is not None and staging.ended_at is None
        self._stagings[guid] = known if known is not None and is_better else staging
        while len(self._stagings) > REMEMBERED:
            self._stagings.popitem(last=False)

    def put_unknown(self, guid: DropletGuid) -> None:
        """Remember that the build of a droplet was looked for in vain."""
        self._unknown[guid] = None
        while len(self._unknown) > REMEMBERED:
            self._unknown.popitem(last=False)

    def may_be_found(self, guid: DropletGuid) -> bool:
        """Whether the staging of a droplet is not known, and was not looked for in vain."""
        return guid not in self._stagings and guid not in self._unknown

    def of(self, guid: DropletGuid) -> KnownStaging | None:
        """Return the staging of a droplet; None when it is not remembered."""
        return self._stagings.get(guid)
