"""The lock in Locket that makes an instance the active one."""

import contextlib

from controller.leadership.ports import Holder, HolderNote, parse_holder
from controller.locket.client import HeldLock, LocketClient
from controller.locket.locket_errors import SYSTEM
from reconcile.errors import Conflict, DockerCacheError, ErrorCode

LOCK_KEY = "diego-docker-cache"

_PART_OF_INTERVAL = 0.9
"""Share of the retry interval that a call may take. So the call ends with an error that says why, before its
caller gives up."""

_LOOK_WITHIN = 1.0
"""Seconds for finding out who holds the lock, when this instance was refused it."""


class LocketLock:
    """The lock of all instances of one platform.

    Args:
        client: Makes the calls to Locket.
        ttl: Seconds after the last renewal at which Locket may give the lock to another owner.
        retry_interval: Seconds that one call may take.
        key: Name of the lock.
    """

    def __init__(self, client: LocketClient, *, ttl: int, retry_interval: float, key: str = LOCK_KEY) -> None:
        self._client, self._key, self._ttl = client, key, ttl
        self._limit = retry_interval * _PART_OF_INTERVAL
        self._owner: str | None = None

    async def acquire(self, note: HolderNote) -> None:
        """Take the lock for the note's owner, or renew it.

        Raises:
            Conflict: `lock-held`: another owner holds it; the detail says who.
            Unavailable: Locket did not answer; the lock may have been taken nevertheless.
        """
        self._owner = note.owner
        try:
            await self._client.lock(
                self._key, HeldLock(note.owner, note.as_text()), ttl=self._ttl, limit=self._limit
            )
        except Conflict as error:
            holder = await self._holder_or_none()
            who = "another instance" if holder is None else str(holder)
            detail = f"{who} holds the lock {self._key} of {self._client.address}"
            raise Conflict(SYSTEM, ErrorCode.LOCK_HELD, detail) from error

    async def release(self) -> None:
        """Give the lock back if the owner of the last `acquire` still holds it.

        Raises:
            Unavailable: Locket did not answer.
        """
        if self._owner is None:
            return
        with contextlib.suppress(Conflict):  # it had expired, and another instance has it
            await self._client.release(self._key, self._owner, limit=self._limit)

    async def find_holder(self) -> Holder | None:
        """Find who holds the lock; None where nobody does.

        Raises:
            Unavailable: Locket did not answer.
        """
        held = await self._client.find(self._key, limit=self._limit)
        return None if held is None else parse_holder(held.owner, held.value)

    async def _holder_or_none(self) -> Holder | None:
        try:
            held = await self._client.find(self._key, limit=min(_LOOK_WITHIN, self._limit))
        except DockerCacheError:
            return None
        return None if held is None else parse_holder(held.owner, held.value)
