"""Keeps two copies of the same content from being made at once, without letting one tenant wait for another.

A copy waits only for a copy of its own trust domain, and only while that copy keeps a minimum rate. Else both
copies are made, each from its own source. Content that is being copied is not deleted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from reconcile.errors import Conflict
from reconcile.references import Digest

PATIENCE = 5.0
"""Seconds over which the rate of a copy is measured while another copy waits for it. A deletion waits as many
seconds for the copies of its content to end."""

Transferred = Callable[[], int]
"""Counts the bytes that a copy has transferred or need not transfer; 0 before it has begun."""


@dataclass(eq=False, slots=True)
class _Holder:
    """A copy of some content in a trust domain, or, where the domain is None, the deletion of the content."""

    domain: str | None
    transferred: Transferred


class ContentLocks:
    """The locks of all contents.

    Args:
        slowest: Bytes per second below which no other copy waits for a copy.
    """

    def __init__(self, slowest: float) -> None:
        self._slowest = slowest
        self._holders: dict[Digest, list[_Holder]] = {}
        self._changes: dict[Digest, asyncio.Event] = {}

    @asynccontextmanager
    async def exclusive(self, content: Digest) -> AsyncIterator[None]:
        """Hold some content alone, to delete it.

        Raises:
            Conflict: `being-copied`: copies of the content were still being made after `PATIENCE`.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                while self._holders.get(content):
                    await self._change(content)
        except TimeoutError as error:
            raise Conflict("cacher", "being-copied", f"{content} is being copied") from error
        async with self._holding(content, _Holder(None, _nothing)):
            yield

    @asynccontextmanager
    async def copying(self, content: Digest, domain: str, transferred: Transferred) -> AsyncIterator[None]:
        """Hold some content while a copy of it is made.

        Args:
            content: What is copied.
            domain: The trust domain of the source.
            transferred: Tells those that wait how far the copy has come.
        """
        while (
            holder := self._holder_to_wait_for(content, domain)
        ) is not None and await self._is_worth_waiting(content, holder):
            pass
        async with self._holding(content, _Holder(domain, transferred)):
            yield

    def _holder_to_wait_for(self, content: Digest, domain: str) -> _Holder | None:
        """Find a copy in the same domain, or a deletion of the content; None when there is neither."""
        return next((each for each in self._holders.get(content, ()) if each.domain in {domain, None}), None)

    async def _is_worth_waiting(self, content: Digest, holder: _Holder) -> bool:
        """Wait until the holders change or `PATIENCE` ends; False when the holder was too slow meanwhile."""
        before = holder.transferred()
        try:
            async with asyncio.timeout(None if holder.domain is None else PATIENCE):
                await self._change(content)
        except TimeoutError:
            return holder.transferred() - before >= self._slowest * PATIENCE
        return True

    async def _change(self, content: Digest) -> None:
        await self._changes.setdefault(content, asyncio.Event()).wait()

    @asynccontextmanager
    async def _holding(self, content: Digest, holder: _Holder) -> AsyncIterator[None]:
        holders = self._holders.setdefault(content, [])
        holders.append(holder)
        try:
            yield
        finally:
            holders.remove(holder)
            if not holders:
                del self._holders[content]
            change = self._changes.pop(content, None)
            if change is not None:
                change.set()


def _nothing() -> int:
    return 0
