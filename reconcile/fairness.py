"""Decides which of the waiting jobs runs next, so that what one tenant brings costs that tenant alone.

A job waits in the line of its organization and of its source host. The organization that has the fewest jobs
under way for its weight comes first, and of those the one that was served least; the same then decides among
the hosts of that organization. What a staging waits for goes before the backlog, which has every fourth turn.

Some slots are common: any job may take one, so a single tenant uses them all while nobody else has work. The
others are a reserve, for organizations and hosts of which nothing is under way: whoever holds all common
slots, with copies that take for ever, keeps nobody else from being served.

Pure state and arithmetic, without a clock.
"""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Counted = TypeVar("Counted", bound=Hashable)

BACKLOG_TURN = 4
"""Number of turns of which one is the backlog's while both wait."""


class Urgency(IntEnum):
    """What goes first."""

    BACKLOG = 0
    """An app runs from its source meanwhile."""
    STAGING = 1
    """An app, or an operator, waits for the copy."""


@dataclass(frozen=True, slots=True)
class Share:
    """Whose work a job is.

    Attributes:
        organization: GUID of the organization, or what stands for it where that is not known.
        host: Host of the source registry, in its canonical form.
    """

    organization: str
    host: str
    urgency: Urgency = Urgency.STAGING


@dataclass(frozen=True, slots=True)
class Slots:
    """How many jobs run at the same time, and with which weights.

    Attributes:
        common: Slots for any job.
        reserve: Further slots, for organizations and hosts of which nothing is under way.
        organizations: Weights of organizations, by GUID; 1 for those that are not named.
        hosts: Weights of source hosts; 1 for those that are not named.
    """

    common: int = 4
    reserve: int = 4
    organizations: Mapping[str, float] = field(default_factory=dict)
    hosts: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of jobs that run at the same time at most."""
        return self.common + self.reserve


_Line = OrderedDict[Key, None]


class FairShares(Generic[Key]):
    """The keys that wait and those that are under way, and the choice of the next one."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._waiting: dict[Key, tuple[Share, ...]] = {}
        self._counts = dict.fromkeys(Urgency, 0)
        self._lines: dict[Urgency, dict[str, dict[str, _Line[Key]]]] = {each: {} for each in Urgency}
        self._running: dict[Key, Share] = {}
        self._of_urgency: Counter[tuple[str, Urgency]] = Counter()
        self._of_host: Counter[str] = Counter()
        self._organizations = _Turns(slots.organizations)
        self._hosts: dict[str, _Turns] = {}
        """The turns among the hosts of each organization that has something."""
        self._passed_over = 0
        """Turns of stagings since the backlog's last turn, while the backlog waited."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: object) -> bool:
        return key in self._waiting

    def count(self, urgency: Urgency) -> int:
        """Count the keys that wait with some urgency; one that waits with both counts for the higher.

        It costs nothing, however many wait: each scrape asks, in a thread of its own.
        """
        return self._counts[urgency]

    def add(self, key: Key, share: Share) -> None:
        """Let a key wait for a turn of a share; it may wait for those of several."""
        shares = self._waiting.get(key, ())
        if share in shares:
            return
        self._add_to_counts(shares, -1)
        shares = self._waiting[key] = (*shares, share)
        self._add_to_counts(shares, 1)
        organization, host = share.organization, share.host
        self._organizations.enter(organization)
        self._hosts.setdefault(organization, _Turns(self._slots.hosts)).enter(host)
        hosts = self._lines[share.urgency].setdefault(organization, {})
        hosts.setdefault(host, OrderedDict())[key] = None

    def discard(self, key: Key) -> None:
        """Let a key wait no longer."""
        shares = self._waiting.pop(key, ())
        self._add_to_counts(shares, -1)
        for share in shares:
            organizations = self._lines[share.urgency]
            hosts = organizations[share.organization]
            del hosts[share.host][key]
            if not hosts[share.host]:
                del hosts[share.host]
            if not hosts:
                del organizations[share.organization]
            self._leave(share)

    def choose(self) -> Key | None:
        """Take the key whose turn it is, which is under way from now on; None when no key may start."""
        if len(self._running) >= self._slots.total:
            return None
        has_both = all(self._lines.values())
        is_backlogs_turn = has_both and self._passed_over >= BACKLOG_TURN - 1
        for urgency in sorted(Urgency, reverse=not is_backlogs_turn):
            share = self._next_share(urgency)
            if share is not None:
                is_passed_over = has_both and urgency is Urgency.STAGING
                self._passed_over = self._passed_over + 1 if is_passed_over else 0
                return self._start(share)
        return None

    def release(self, key: Key) -> None:
        """Note that a key is under way no longer."""
        share = self._running.pop(key, None)
        if share is None:
            return
        _take_one(self._of_urgency, (share.organization, share.urgency))
        _take_one(self._of_host, share.host)
        self._organizations.end(share.organization)
        self._hosts[share.organization].end(share.host)
        self._leave(share)

    def _add_to_counts(self, shares: tuple[Share, ...], change: int) -> None:
        """Count a key that waits for turns of some shares, or count it no more; one of none does not wait."""
        if shares:
            self._counts[max(each.urgency for each in shares)] += change

    def _start(self, share: Share) -> Key:
        organization, host = share.organization, share.host
        key = next(iter(self._lines[share.urgency][organization][host]))
        self._running[key] = share
        self._of_urgency[organization, share.urgency] += 1
        self._of_host[host] += 1
        self._organizations.start(organization)
        self._hosts[organization].start(host)
        self.discard(key)
        return key

    def _next_share(self, urgency: Urgency) -> Share | None:
        """Find the share of some urgency whose turn it is; None when none that waits may start."""
        organizations = self._lines[urgency]
        for organization in sorted(organizations, key=self._organizations.load):
            turns = self._hosts[organization]
            for host in sorted(organizations[organization], key=turns.load):
                share = Share(organization, host, urgency)
                if self._may_start(share):
                    return share
        return None

    def _may_start(self, share: Share) -> bool:
        if len(self._running) < self._slots.common:
            return True
        urgencies = [each for each in Urgency if each >= share.urgency]
        own = sum(self._of_urgency[share.organization, each] for each in urgencies)
        return own == 0 or (self._of_host[share.host] == 0 and own < self._slots.common // 2)

    def _leave(self, share: Share) -> None:
        """Forget the turns of an organization, or of one of its hosts, that has nothing any more."""
        organization, host = share.organization, share.host
        if not any(host in lines.get(organization, ()) for lines in self._lines.values()):
            self._hosts[organization].leave(host)
        if not any(organization in lines for lines in self._lines.values()):
            self._organizations.leave(organization)
            if not self._organizations.has(organization):
                del self._hosts[organization]


class _Turns:
    """The jobs that each name has under way, and the turns that each was given, divided by its weight."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._running: Counter[str] = Counter()
        self._given: dict[str, float] = {}
        self._level = 0.0
        """Virtual time: the share of the name chosen last, with which new names start."""

    def has(self, name: str) -> bool:
        """Whether a name has entered and not left."""
        return name in self._given

    def enter(self, name: str) -> None:
        """Let a name take part; what it was given before is kept while it takes part already."""
        self._given.setdefault(name, self._level)

    def start(self, name: str) -> None:
        """Give a name a turn."""
        self._level = self._given[name]
        self._given[name] += 1 / self._weight(name)
        self._running[name] += 1

    def end(self, name: str) -> None:
        """Note that one job of a name has ended."""
        _take_one(self._running, name)

    def leave(self, name: str) -> None:
        """Forget a name that waits for nothing, unless it has something under way."""
        if name not in self._running:
            self._given.pop(name, None)

    def load(self, name: str) -> tuple[float, float]:
        """Return what a name has got: the lowest is next."""
        return self._running[name] / self._weight(name), self._given[name]

    def _weight(self, name: str) -> float:
        return self._weights.get(name, 1.0)


def _take_one(counter: "Counter[Counted]", key: Counted) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
