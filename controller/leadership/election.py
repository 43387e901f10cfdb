"""Waits for the lock, keeps it, and ends the process's right to act when it cannot be kept.

The first renewal that fails ends it, as in the daemons of Diego: nobody can tell whether another instance has
the lock by now. The process then ends with a status of its own, and its supervisor starts it again as a
standby.
Source: cloudfoundry/locket lock/lock.go.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import structlog

from controller.leadership.lease import ActiveLease
from controller.leadership.ports import Holder, HolderNote, LockService
from reconcile.errors import Conflict, DockerCacheError, ErrorCode, LeaseLost, Unavailable

log = structlog.get_logger(scope="leadership")

T = TypeVar("T")

RELEASE_WITHIN = 3.0
"""Seconds that the service gets to take the lock back; without that it is free after its time to live."""


class Election:
    """One process's part in the election of the active instance.

    Args:
        service: Gives the lock.
        lease: Is valid as long as the lock is held.
        note: What this process says of itself.
        wall_clock: Gives UTC seconds since 1970.
    """

    def __init__(
        self,
        service: LockService,
        lease: ActiveLease,
        note: HolderNote,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._lease = lease
        self._note = note
        self._wall_clock = wall_clock
        self._holder: Holder | None = None
        self._last_error, self._logged = "", ""
        self._renewed_at = 0.0
        self._running = set[asyncio.Future[Any]]()

    @property
    def holder(self) -> Holder | None:
        """Who held the lock when this process last failed to acquire it; None when that is not known."""
        return self._holder

    @property
    def last_error(self) -> str:
        """Why the last attempt to take the lock failed, other than that another holds it; empty for none."""
        return self._last_error

    async def wait(self) -> None:
        """Return when this process is active; attempts go on forever.

        Raises:
            LeaseLost: The lock was taken too slowly to be of use.
        """
        log.info("waiting-for-lock", owner=self._note.owner)
        while True:
            started = self._lease.clock()
            try:
                await self.take()
            except LeaseLost:
                raise
            except DockerCacheError as error:
                self._note_failure(error)
            else:
                return
            await self._sleep_since(started)

    async def take(self) -> None:
        """Make one attempt to take the lock.

        Raises:
            Conflict: `lock-held`; `holder` says by whom.
            DockerCacheError: The service did not give it.
            LeaseLost: The lock was taken too slowly to be of use.
        """
        started = self._lease.clock()
        self._note = replace(self._note, since=self._wall_clock())
        try:
            await self._attempt()
        except Conflict:
            self._holder = await self._find_holder()
            raise
        except DockerCacheError:
            self._holder = None
            raise
        self._lease.renewed(started)
        self._renewed_at = started
        self._holder, self._last_error = None, ""
        log.info("acquired-lock", owner=self._note.owner, lease_s=round(self._lease.remaining(), 1))

    async def keep(self) -> NoReturn:
        """Renew the lock until that fails once.

        Raises:
            LeaseLost: This process must not act any more, and end.
        """
        started = self._renewed_at
        while True:
            await self._sleep_since(started)
            started = self._lease.clock()
            if self._lease.is_active:  # else it stood still, and what it does with the lock now helps nobody
                try:
                    await self._attempt()
                except DockerCacheError as error:
                    self._lease.revoke(f"the lock could not be renewed: {error}")
            self._lease.renewed(started)

    async def release(self) -> None:
        """Give the lock back after everything else has ended; a failure costs the next one some time."""
        self._lease.revoke("this process is stopping")
        try:
            await self._in_time(self._service.release(), RELEASE_WITHIN)
        except DockerCacheError as error:
            log.info("failed-to-release-lock", owner=self._note.owner, error=str(error))
        else:
            log.info("released-lock", owner=self._note.owner)

    async def _attempt(self) -> None:
        await self._in_time(self._service.acquire(self._note), self._lease.times.retry_interval)

    async def _find_holder(self) -> Holder | None:
        try:
            return await self._in_time(self._service.find_holder(), self._lease.times.retry_interval)
        except DockerCacheError:
            return None  # it is only for people

    async def _in_time(self, call: Coroutine[Any, Any, T], limit: float) -> T:
        """Await a call no longer than a limit, whether it can be interrupted or not."""
        running = asyncio.ensure_future(call)
        self._running.add(running)
        running.add_done_callback(self._ended)
        try:
            done, _ = await asyncio.wait([running], timeout=limit)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if not done:
            running.cancel()
            raise Unavailable("leadership", ErrorCode.TIMEOUT, f"no answer within {limit:g} s")
        return running.result()

    def _ended(self, running: "asyncio.Future[Any]") -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # retrieved: nobody waits for an answer that was too late

    def _note_failure(self, error: DockerCacheError) -> None:
        """Log what keeps this process from being active, once as long as it stays the same."""
        is_held = isinstance(error, Conflict)
        text = str(self._holder or error.detail) if is_held else str(error)
        self._last_error = "" if is_held else text
        if text == self._logged:
            return
        self._logged = text
        if is_held:
            log.info("lock-is-held", holder=text)
        else:
            log.error("failed-to-acquire-lock", error=text)

    async def _sleep_since(self, started: float) -> None:
        left = started + self._lease.times.retry_interval - self._lease.clock()
        await asyncio.sleep(max(0.0, left))
