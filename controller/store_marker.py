"""Keeps this store's marker on the BBS fresh, and lets nothing be changed while another store's marker is.

`reconcile.store_markers` says what a marker is and who may act; this loop reads and writes them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import NoReturn, Protocol

import structlog

from controller.leadership.lease import boot_time
from controller.metrics import Metrics
from controller.tracing import tracing
from reconcile.errors import Conflict, DockerCacheError, ErrorCode, Unavailable
from reconcile.store_markers import (
    COURTESY,
    LOOK_INTERVAL,
    MARKER_TTL,
    REFRESH_INTERVAL,
    MarkerView,
    StoreId,
    marked_stores,
    marker_of,
)

log = structlog.get_logger(scope="store-marker")

SHOWN = 8
"""Number of other stores that are named."""

_SYSTEM = "bbs"
_ADVICE = "stop that daemon, or let both use one database"


class MarkedBbs(Protocol):
    """The BBS, with the calls that are not held up by what the markers say."""

    async def list_domains(self) -> frozenset[str]:
        """List the fresh domains."""

    async def upsert_domain(self, domain: str, *, ttl: int) -> None:
        """Keep a domain fresh for some seconds."""


class StoreMarker:
    """The marker of this store, and what was last seen of those of others.

    Args:
        store: The id of this process's store.
        clock: Gives seconds that go on while the machine sleeps.
    """

    def __init__(
        self, bbs: MarkedBbs, store: StoreId, *, metrics: Metrics, clock: Callable[[], float] = boot_time
    ) -> None:
        self._bbs = bbs
        self._store = store
        self._clock = clock
        self._view = MarkerView()
        self._has_collided = False
        self._not_before = 0.0
        metrics.instance.other_stores.set_function(lambda: len(self._view.others))

    @property
    def store(self) -> StoreId:
        """The id of this process's store."""
        return self._store

    @property
    def others(self) -> tuple[StoreId, ...]:
        """Other stores whose markers were fresh at the last look, as many as are shown."""
        return tuple(sorted(self._view.others)[:SHOWN])

    @property
    def may_change(self) -> bool:
        """Whether this process may change anything on the BBS now."""
        return self._view.may_change(self._clock())

    @property
    def obstacle(self) -> str:
        """Why this process may not change anything on the BBS, for operators; empty while it may."""
        if self._view.others:
            return f"a daemon with another store works on this BBS: {', '.join(self.others)}; {_ADVICE}"
        if not self.may_change:
            return "the BBS has not taken the marker of this store lately, so another daemon may work on it"
        return ""

    def check(self) -> None:
        """Let a change of the BBS go on only while this store's marker alone is fresh.

        Raises:
            Unavailable: `other-store-active`. Nothing was sent; it may be possible later.
        """
        if obstacle := self.obstacle:
            raise Unavailable(_SYSTEM, ErrorCode.OTHER_STORE_ACTIVE, obstacle, may_have_happened=False)

    async def claim(self) -> None:
        """Mark the store, as soon as no other store's marker is fresh, however long that takes.

        Where the BBS does not answer, the process goes on: `check` lets nothing be changed until `run` has
        marked the store.
        """
        while True:
            if await self._attempt(self._begin) is not False:
                return
            await asyncio.sleep(LOOK_INTERVAL)

    async def claim_at_once(self) -> None:
        """Mark the store, or refuse to where another store's marker is fresh; else as `claim`.

        Raises:
            Conflict: `other-store-active`: another daemon works on the BBS, or wants to.
        """
        if await self._attempt(self._begin) is False:
            raise Conflict(_SYSTEM, ErrorCode.OTHER_STORE_ACTIVE, self.obstacle)

    async def run(self) -> NoReturn:
        """Keep the marker fresh forever, and see when another one is."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL if self.may_change else LOOK_INTERVAL)
            await self._attempt(self._refresh)

    async def end(self) -> None:
        """Let the marker expire at once: this process changes nothing any more, and leaves nothing undone.

        Where the BBS does not answer, it expires by itself.
        """
        if not self._view.has_claim(self._clock()):
            return
        self._view = self._view.without_claim()
        try:
            await self._bbs.upsert_domain(marker_of(self._store), ttl=1)
        except DockerCacheError as error:
            log.info("failed-to-end-marker", error=str(error))

    async def _attempt(self, step: Callable[[], Coroutine[None, None, bool]]) -> bool | None:
        """Return what a step came to; None where the BBS did not answer."""
        with tracing():
            try:
                return await step()
            except DockerCacheError as error:
                log.info("failed-to-mark-store", error=str(error), retry_after_s=LOOK_INTERVAL)
                return None

    async def _begin(self) -> bool:
        """Look, write the marker and look again; return whether no other store's marker was fresh."""
        await self._look()
        if self._view.others or self._clock() < self._not_before:
            return False
        started_at = self._clock()
        await self._mark()
        await self._look()
        if self._view.others:  # each of two that have written may have seen the other
            self._has_collided = True
            return False
        self._has_collided = False
        self._view = self._view.marked(started_at)
        log.info("marked-store", store_id=self._store)
        return True

    async def _refresh(self) -> bool:
        """Make the marker fresh for longer; return whether this store has one that it relies on."""
        started_at = self._clock()
        if not self._view.has_claim(started_at):
            return await self._begin()
        await self._mark()
        await self._look()
        if self._view.must_give_way(self._store, self._clock()):
            self._view = self._view.without_claim()
            log.error("gave-way-to-other-store", other_stores=self.others, advice=_ADVICE)
            return False
        self._view = self._view.marked(started_at)
        return True

    async def _mark(self) -> None:
        await self._bbs.upsert_domain(marker_of(self._store), ttl=MARKER_TTL)

    async def _look(self) -> None:
        others = marked_stores(await self._bbs.list_domains()) - {self._store}
        now, before = self._clock(), self._view.others
        self._view = self._view.looked(others, now)
        if self._has_collided and others and min(others) < self._store:
            self._not_before = now + COURTESY
        if others != before:
            if others:
                log.error(
                    "standing-by-for-other-store",
                    store_id=self._store,
                    other_stores=self.others,
                    detail="nothing on the BBS is changed until its marker has expired",
                    advice=_ADVICE,
                )
            else:
                log.info("other-store-is-gone", store_id=self._store)
