"""Remembers of which staging a droplet came, as far as Cloud Controller does not show it with the droplet."""

from collections import OrderedDict
from dataclasses import dataclass

from reconcile.droplets import BuildGuid, DropletGuid

REMEMBERED = 50_000
"""Droplets whose stagings are remembered; the records know the builds of all that were looked at."""

AWAITED_FOR = 86_400.0
"""Seconds after a staging was noticed in which its copy may be waited for."""


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

    @property
    def is_seen(self) -> bool:
        """Whether its task was seen, so that it had no login if none is known."""
        return self.ended_at is not None


class KnownStagings:
    """The stagings of droplets that were followed or listed lately, and which of them are new."""

    def __init__(self) -> None:
        self._stagings: OrderedDict[DropletGuid, KnownStaging] = OrderedDict()
        self._noticed: OrderedDict[DropletGuid, float] = OrderedDict()
        self._unknown: OrderedDict[DropletGuid, None] = OrderedDict()

    def put(self, guid: DropletGuid, staging: KnownStaging) -> None:
        """Remember the staging of a droplet; one whose task was seen is known better than a listed one."""
        known = self._stagings.pop(guid, None)
        is_better = known is not None and known.ended_at is not None and staging.ended_at is None
        self._stagings[guid] = known if known is not None and is_better else staging
        while len(self._stagings) > REMEMBERED:
            self._stagings.popitem(last=False)

    def put_unknown(self, guid: DropletGuid) -> None:
        """Remember that the build of a droplet was looked for and not found."""
        self._unknown[guid] = None
        while len(self._unknown) > REMEMBERED:
            self._unknown.popitem(last=False)

    def may_be_found(self, guid: DropletGuid) -> bool:
        """Whether the staging of a droplet is not known, and was not looked for without success."""
        return guid not in self._stagings and guid not in self._unknown

    def of(self, guid: DropletGuid) -> KnownStaging | None:
        """Return the staging of a droplet; None when it is not remembered."""
        return self._stagings.get(guid)

    def note_new(self, guid: DropletGuid, at: float) -> None:
        """Note that a droplet is new: an app waits for its copy, or starts from its source meanwhile.

        Args:
            guid: Of the droplet.
            at: The present, in seconds of a clock that nobody sets.
        """
        self._noticed.setdefault(guid, at)
        while len(self._noticed) > REMEMBERED:
            self._noticed.popitem(last=False)

    def is_new(self, guid: DropletGuid, now: float) -> bool:
        """Whether a droplet was noticed as a new one, and not long ago."""
        at = self._noticed.get(guid)
        return at is not None and now - at < AWAITED_FOR
