"""What the election needs from a service that gives a lock to one owner at a time."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from reconcile.foreign_text import one_line

MAX_VALUE = 4096
"""Characters of a lock's value."""

MAX_OWNER = 255
"""Characters of an owner."""

_MAX_FIELD = 256


@dataclass(frozen=True, slots=True)
class HolderNote:
    """What an instance says of itself beside its lock.

    Attributes:
        instance_id: Of the instance, the same after a restart.
        run_id: Of the process.
        admin_address: Where its admin API listens; empty for none.
        since: When it became active, in UTC seconds since 1970.
        version: Of the program.
    """

    instance_id: str
    run_id: str
    admin_address: str
    since: float
    version: str

    @property
    def owner(self) -> str:
        """The owner of the lock: unique to a process, so that no earlier one can renew it."""
        return f"{self.instance_id}-{self.run_id}"

    def as_text(self) -> str:
        """Write the note as a lock's value: JSON of at most 4096 ASCII characters."""
        return json.dumps(
            {
                "instance_id": _ascii(self.instance_id),
                "run_id": _ascii(self.run_id),
                "admin_address": _ascii(self.admin_address),
                "since": datetime.fromtimestamp(self.since, UTC).isoformat(timespec="milliseconds"),
                "version": _ascii(self.version),
            }
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Attributes:
        owner: Of the lock.
        note: What the holder says of itself; None where its value is no note.
    """

    owner: str
    note: HolderNote | None

    def __str__(self) -> str:
        if self.note is None:
            return self.owner
        at = f" at {self.note.admin_address}" if self.note.admin_address else ""
        since = datetime.fromtimestamp(self.note.since, UTC).isoformat(timespec="seconds")
        return f"instance {self.note.instance_id}{at} since {since}"


def parse_holder(owner: str, value: str) -> Holder:
    """Read who holds a lock; any program can have written the value."""
    return Holder(one_line(owner, MAX_OWNER), _parse_note(value))


def _ascii(text: str) -> str:
    return (
        one_line(text.encode("ascii", "replace").decode("ascii"), _MAX_FIELD)
        .encode("ascii", "replace")
        .decode("ascii")
    )


def _parse_note(value: str) -> HolderNote | None:
    if len(value) > MAX_VALUE:
        return None
    try:
        fields = json.loads(value)
        since = datetime.fromisoformat(fields["since"]).timestamp()
        datetime.fromtimestamp(since, UTC)  # as it is shown: a time in another zone may be out of range
        texts = [fields[name] for name in ("instance_id", "run_id", "admin_address", "version")]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError):
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    instance_id, run_id, admin_address, version = (one_line(text, _MAX_FIELD) for text in texts)
    return HolderNote(instance_id, run_id, admin_address, since, version)


class LockService(Protocol):
    """Gives one lock to one owner at a time.

    Without a renewal the lock is free again after its time to live, which the service counts from when it got
    the last one.
    """

    async def acquire(self, note: HolderNote) -> None:
        """Take the lock for the note's owner, or renew it.

        Raises:
            Conflict: `lock-held`: another owner holds it; the detail says who.
            Unavailable: The service did not answer; the lock may have been taken nevertheless.
        """

    async def release(self) -> None:
        """Give the lock back, where the owner of the last note holds it; else nothing happens.

        Raises:
            Unavailable: The service did not answer.
        """

    async def find_holder(self) -> Holder | None:
        """Find who holds the lock; None where nobody does.

        Raises:
            Unavailable: The service did not answer.
        """
