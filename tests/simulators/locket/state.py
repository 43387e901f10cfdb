"""What Locket knows: who holds which key, and the timers by which each of its servers lets keys expire.

A state machine without I/O, whose clock is passed in. What is due by the clock happens when the state is next
looked at, in the order of time.
Source: locket db/lock_db.go, db/queries.go, expiration/burglar.go, expiration/lock_pick.go, handlers/handler.go.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from protos.locket.locket_pb2 import LOCK, PRESENCE, UNKNOWN, LockRequest, Resource, TypeCode

SCAN_INTERVAL = 5.0
"""Seconds between a server's looks at all rows."""

MAX_KEY = MAX_OWNER = 255
MAX_VALUE = 4096

STOLEN_TTL = 15  # seconds, where nobody had the key

_TYPES: dict[TypeCode, str] = {LOCK: "lock", PRESENCE: "presence"}


class Refused(StrEnum):
    """The errors that Locket answers with; each is the text of its status."""

    LOCK_COLLISION = "lock-collision"
    INVALID_TTL = "invalid-ttl"
    INVALID_OWNER = "invalid-owner"
    INVALID_TYPE = "invalid-type"
    RESOURCE_NOT_FOUND = "resource-not-found"
    BAD_REQUEST = "sql-bad-request"


class Refusal(Exception):
    """A call that Locket refuses."""

    def __init__(self, why: Refused) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of locks.

    Attributes:
        ttl: Seconds.
        index: Counts the writes of the row.
        row_id: Made when the row is inserted; a renewal keeps it.
    """

    key: str
    owner: str
    value: str
    type: str
    ttl: int
    index: int
    row_id: str

    @property
    def resource(self) -> Resource:
        """The row as calls show it."""
        code = next((code for code, name in _TYPES.items() if name == self.type), UNKNOWN)
        return Resource(key=self.key, owner=self.owner, value=self.value, type=self.type, type_code=code)


@dataclass(frozen=True, slots=True)
class _Timer:
    row: Row
    due: float


class Burglar:
    """One server's timers: it deletes a row whose time is over and that nobody has written since.

    Attributes:
        next_scan: When it looks at all rows again.
    """

    def __init__(self, started_at: float) -> None:
        self.next_scan = started_at
        self._timers: dict[tuple[str, str], _Timer] = {}

    @property
    def next_at(self) -> float:
        """When it does something next."""
        return min((self.next_scan, *(timer.due for timer in self._timers.values())))

    def register(self, row: Row, now: float) -> None:
        """Start the timer of a row, with its full time, unless it runs for this write of the row already."""
        known = self._timers.get((row.key, row.row_id))
        if known is None or known.row.index < row.index:
            self._timers[row.key, row.row_id] = _Timer(row, now + row.ttl)

    def take_due(self, now: float) -> tuple[Row, ...]:
        """Take the rows whose timers have ended."""
        due = sorted(
            (timer for timer in self._timers.values() if timer.due <= now), key=lambda each: each.due
        )
        for timer in due:
            del self._timers[timer.row.key, timer.row.row_id]
        return tuple(timer.row for timer in due)


class State:
    """The database of Locket with the timers of its servers.

    Args:
        clock: Monotonic time in seconds.

    Attributes:
        expired: The rows that have expired, in order.
        observers: Told of each row that is written, and of each key with None that its owner gives up.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.expired: list[Row] = []
        self.observers: list[Callable[[str, Row | None], None]] = []
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._burglars: list[Burglar] = []

    def start_server(self) -> Burglar:
        """Let one more server watch the rows; it looks at all of them at once."""
        self._pass_time()
        burglar = Burglar(self._clock())
        self._burglars.append(burglar)
        self._pass_time()
        return burglar

    def stop_server(self, burglar: Burglar) -> None:
        """Let a server and its timers be gone."""
        self._pass_time()
        self._burglars.remove(burglar)

    @property
    def rows(self) -> dict[str, Row]:
        """The rows by key, those included whose time is over and that nobody has deleted yet."""
        self._pass_time()
        return dict(self._rows)

    def lock(self, request: LockRequest, burglar: Burglar) -> None:
        """Take a key, or renew it for its owner.

        Raises:
            Refusal: Another owner has it, or the request is wrong.
        """
        self._pass_time()
        resource, ttl = request.resource, request.ttl_in_seconds
        kind = _type_of(resource.type_code)
        if ttl <= 0:
            raise Refusal(Refused.INVALID_TTL)
        if not resource.owner:
            raise Refusal(Refused.INVALID_OWNER)
        before = self._rows.get(resource.key)
        if before is not None and before.owner not in {resource.owner, ""}:
            raise Refusal(Refused.LOCK_COLLISION)
        lengths = len(resource.key), len(resource.owner), len(resource.value)
        if any(length > most for length, most in zip(lengths, (MAX_KEY, MAX_OWNER, MAX_VALUE), strict=True)):
            raise Refusal(Refused.BAD_REQUEST)
        row = Row(
            resource.key,
            resource.owner,
            resource.value,
            kind,
            ttl,
            1 if before is None else before.index + 1,
            str(uuid.uuid4()) if before is None else before.row_id,
        )
        self._rows[row.key] = row
        burglar.register(row, self._clock())
        for observer in self.observers:
            observer(row.key, row)

    def release(self, resource: Resource) -> None:
        """Give up a key; one that nobody has is no error.

        Raises:
            Refusal: Another owner has it.
        """
        self._pass_time()
        row = self._rows.get(resource.key)
        if row is None:
            return
        if row.owner != resource.owner:
            raise Refusal(Refused.LOCK_COLLISION)
        del self._rows[resource.key]
        for observer in self.observers:
            observer(resource.key, None)

    def fetch(self, key: str) -> Resource:
        """Show who has a key.

        Raises:
            Refusal: Nobody has it.
        """
        self._pass_time()
        row = self._rows.get(key)
        if row is None or not row.owner:
            raise Refusal(Refused.RESOURCE_NOT_FOUND)
        return row.resource

    def fetch_all(self, code: TypeCode) -> list[Resource]:
        """List all keys of a type.

        Raises:
            Refusal: There is no such type.
        """
        self._pass_time()
        kind = _type_of(code)
        return [row.resource for row in self._rows.values() if row.type == kind and row.owner]

    def steal(self, key: str, owner: str, value: str = "") -> None:
        """Give a key to another owner, as if its row had expired and had been taken since."""
        self._pass_time()
        ttl = self._rows[key].ttl if key in self._rows else STOLEN_TTL
        row = Row(key, owner, value, _TYPES[LOCK], ttl, 1, str(uuid.uuid4()))
        self._rows[key] = row
        for burglar in self._burglars:
            burglar.register(row, self._clock())

    def _pass_time(self) -> None:
        """Do what is due, in the order of time."""
        now = self._clock()
        while due := [each for each in self._burglars if each.next_at <= now]:
            burglar = min(due, key=lambda each: each.next_at)
            at = burglar.next_at
            for row in burglar.take_due(at):
                if self._rows.get(row.key) == row:
                    del self._rows[row.key]
                    self.expired.append(row)
            if burglar.next_scan <= at:
                burglar.next_scan = at + SCAN_INTERVAL
                for row in self._rows.values():
                    burglar.register(row, at)


def _type_of(code: TypeCode) -> str:
    if code not in _TYPES:
        raise Refusal(Refused.INVALID_TYPE)
    return _TYPES[code]
