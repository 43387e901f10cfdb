"""The records of migrations: how far each has come, and what LRPs ran from before."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from reconcile.lrps import Credentials, DesiredLrp, ProcessGuid, Pull
from reconcile.reasons import Reason
from reconcile.references import CacheGuid, Rootfs


class Goal(StrEnum):
    """What a migration is to bring an LRP to."""

    CACHE = "cache"
    """Its cached image."""
    SOURCE = "source"
    """Its original source."""


class Strategy(StrEnum):
    """How an LRP is migrated."""

    RECREATE = "recreate"
    """It is removed and desired again, since none of its instances runs."""
    BRIDGE = "bridge"
    """The same, while a bridge serves."""
    UPDATE = "update"
    """Its login is updated in place, and none of its instances is touched."""


class Phase(StrEnum):
    """How far a migration has come; written before the effect that it names.

    Attributes:
        reason: The reason that an LRP in this phase has.
    """

    reason: Reason

    def __new__(cls, reason: Reason) -> Self:
        """Make a member whose text is that of its reason."""
        member = str.__new__(cls, reason.value)
        member._value_, member.reason = reason.value, reason
        return member

    PREPARED = Reason.PREPARED
    BRIDGING = Reason.BRIDGING
    BRIDGED = Reason.BRIDGED
    REMOVING = Reason.REMOVING
    REMOVED = Reason.REMOVED
    STARTING = Reason.STARTING
    REMOVING_BRIDGE = Reason.REMOVING_BRIDGE


@dataclass(frozen=True, slots=True)
class Migration:
    """An open migration: one desired LRP that gets another rootfs.

    Attributes:
        cache_guid: The cached image that it is migrated to, or back from.
        original: The newest version of the LRP that is known; encrypted at rest.
        rounds: Migrations of the LRP that have begun, this one included.
        run_id: The process that began it; another one than the present after a restart.
        started_at: UTC seconds since 1970.
        unknown_until: UTC seconds since 1970 until which a removal whose answer was lost may still take
            effect; 0 when there was no such removal.
        entered_at: When the phase began, UTC seconds since 1970; 0 in a row of an older version.
        ended: How the migration ends, once that is known; None before.
        detail: Why it ends so, for people; empty without a cause. Never holds credentials.
        instance_guids: The instances from before the removal; an instance row with one of them afterwards
            belongs to the definition that was removed.
        is_stopgap: Whether the LRP was recreated without a bridge, and got one as a stopgap because instances
            from before the removal were still being stopped.
        retired_at: When instances were last retired, UTC seconds since 1970; 0 for never.
        drained_at: When the bridge was found without routes, UTC seconds since 1970; 0 while it has them.
        drain_sent_at: When the original's routes were last taken away, UTC seconds since 1970; 0 for never.
        routed_at: When they were given back, UTC seconds since 1970; 0 when they were not.
        synced_by: Until when Cloud Controller may correct the definition, UTC seconds since 1970; 0 when the
            definition that was removed is known for certain.
        way_back: What the LRP ran from before, once it is turned back because it did not start from its
            copy; None otherwise. Encrypted at rest.
        renews_login: Whether the LRP runs from the copy already, and only gets another login for it. What it
            ran from before is then the same copy with the former login.
    """

    process_guid: ProcessGuid
    cache_guid: CacheGuid
    phase: Phase
    original: DesiredLrp = field(repr=False)
    rounds: int
    run_id: str
    started_at: float
    unknown_until: float = 0.0
    goal: Goal = Goal.CACHE
    strategy: Strategy = Strategy.RECREATE
    entered_at: float = 0.0
    ended: Reason | None = None
    detail: str = ""
    instance_guids: frozenset[str] = frozenset()
    is_stopgap: bool = False
    retired_at: float = 0.0
    drained_at: float = 0.0
    drain_sent_at: float = 0.0
    routed_at: float = 0.0
    synced_by: float = 0.0
    way_back: Pull | None = None
    renews_login: bool = False

    def not_after(self, now: float, *, longest: float) -> Self:
        """Return the same migration without times to come, which no clock that was right has noted.

        What waits since such a time waits since now, so that no time limit is years away.

        Args:
            now: UTC seconds since 1970.
            longest: Seconds for which an answer that was lost is waited for.
        """
        return replace(
            self,
            started_at=min(self.started_at, now),
            entered_at=min(self.entered_at, now),
            retired_at=min(self.retired_at, now),
            drained_at=min(self.drained_at, now),
            drain_sent_at=min(self.drain_sent_at, now),
            routed_at=min(self.routed_at, now),
            unknown_until=min(self.unknown_until, now + longest),
            synced_by=min(self.synced_by, now + longest),
        )

    @property
    def has_bridge(self) -> bool:
        """Whether a bridge serves, or may serve, meanwhile."""
        return self.strategy is Strategy.BRIDGE or self.is_stopgap

    @property
    def is_turned_back(self) -> bool:
        """Whether the LRP goes back to its source because it did not start from its copy."""
        return self.way_back is not None

    @property
    def is_restore(self) -> bool:
        """Whether the LRP goes back to its source because somebody wants it there, and not for a failure."""
        return self.goal is Goal.SOURCE and (not self.is_turned_back or self.ended is Reason.RESTORED)


@dataclass(frozen=True, slots=True)
class OriginalSource:
    """What an LRP ran from before its migration to a cached image, so that it can go back.

    Attributes:
        rootfs: The rootfs that its owner desired.
        needs_credentials: Whether it had a login, which may be lost, since it is kept only encrypted.
    """

    process_guid: ProcessGuid
    cache_guid: CacheGuid
    rootfs: Rootfs
    needs_credentials: bool
    credentials: Credentials | None = field(repr=False)

    @property
    def pull(self) -> Pull | None:
        """What cells pull it with; None when its login is lost."""
        is_lost = self.needs_credentials and self.credentials is None
        return None if is_lost else Pull(self.rootfs, self.credentials)
