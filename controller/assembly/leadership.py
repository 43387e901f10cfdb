"""Opens this process's part in the election of the active instance, as the config says."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from controller import __version__
from controller.config import Config
from controller.leadership.election import Election
from controller.leadership.lease import ActiveLease, boot_time, lease_without_lock
from controller.leadership.ports import HolderNote, LockService
from controller.leadership.standing import Standing
from controller.locket.client import open_locket
from controller.locket.connections import KeepAlive
from controller.locket.lock import LocketLock
from controller.mutual_tls import MutualTls
from controller.process import Process
from controller.store.database import database_on
from controller.store.location import Location
from controller.store.lock_row import LockRow
from reconcile.errors import Conflict, DockerCacheError, LeaseLost
from reconcile.lease import LeaseTimes

log = structlog.get_logger(scope="leadership")


class Leadership:
    """This process's part in the election.

    Attributes:
        lease: Says whether it may act.
        standing: What it says of that.
        owner: Of its lock, and of its term in the database.

    Args:
        times: Of the lock.
        note: What it says of itself beside its lock.
        service: Gives the lock; None where it needs none.
        patience: Seconds for which a lock that nobody renews may still seem to be held.
        clock: Gives seconds that go on while the machine sleeps.
    """

    def __init__(
        self,
        times: LeaseTimes,
        note: HolderNote,
        service: LockService | None,
        *,
        patience: float = 0.0,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.owner = note.owner
        self.lease = lease_without_lock() if service is None else ActiveLease(times, clock=clock)
        self._election = None if service is None else Election(service, self.lease, note)
        self._patience = patience
        self._is_kept = False
        election = self._election
        self.standing = Standing(
            note.instance_id, self.lease, lambda: None if election is None else election.holder
        )
        if election is not None:
            self.standing.add_obstacle(
                lambda: election.last_error and f"it cannot take the lock: {election.last_error}"
            )

    @property
    def problem(self) -> str:
        """Say what keeps this process from its part in the election; a standby that waits has no problem."""
        if self.lease.lost:
            return f"it is not active any more: {self.lease.lost}"
        error = "" if self._election is None else self._election.last_error
        return error and f"it cannot take the lock: {error}"

    async def wait(self) -> None:
        """Return when this process is active; without a lock that is at once."""
        if self._election is None:
            return
        self.standing.reach("it waits for the lock")
        try:
            await self._election.wait()
        except (asyncio.CancelledError, LeaseLost):
            await self._election.release()  # an attempt may have taken it
            raise

    async def take(self) -> None:
        """Become active, or be refused because another process is.

        Raises:
            Conflict: `lock-held`; the detail says by whom.
            DockerCacheError: The lock service did not give it.
        """
        if self._election is None:
            return
        until = self.lease.clock() + self._patience
        while True:
            try:
                await self._election.take()
            except Conflict:
                if self.lease.clock() >= until:
                    raise
                await asyncio.sleep(self.lease.times.retry_interval)
            except (asyncio.CancelledError, DockerCacheError):
                await self._election.release()  # the attempt may have taken it
                raise
            else:
                return

    def keep_for_next(self) -> None:
        """Leave the lock to the process that begins anew in this one's place."""
        self._is_kept = True

    @asynccontextmanager
    async def holding(self, on_loss: Callable[[], None]) -> AsyncIterator[None]:
        """Renew the lock while the block runs, and give it back when everything in the block has ended.

        Args:
            on_loss: Is called when the lock is lost, before the block is cancelled.

        Raises:
            LeaseLost: The lock was lost; the block was cancelled, whatever it did.
        """
        if self._election is None:
            yield
            return
        block, is_over = asyncio.current_task(), False
        keeping: asyncio.Future[Any] = asyncio.ensure_future(self._election.keep())

        def end_block(kept: "asyncio.Future[Any]") -> None:
            if kept.cancelled() or block is None or is_over:
                return
            error = kept.exception()
            self.lease.revoke(f"the lock is not kept any more: {error}")
            try:
                on_loss()  # first of all: a log that nobody reads may hold up the next line
            finally:
                block.cancel()
            said = error.detail if isinstance(error, LeaseLost) else str(error)
            log.error("lost-lock", owner=self.owner, error=said)

        keeping.add_done_callback(end_block)
        try:
            yield
        except BaseException as error:
            if keeping.done() and not keeping.cancelled():
                if block is not None and isinstance(error, asyncio.CancelledError):
                    block.uncancel()
                raise LeaseLost(self.lease.lost) from error
            raise
        finally:
            is_over = True
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            if self._is_kept:
                self.lease.revoke("this process begins anew")
            else:
                await self._election.release()


@asynccontextmanager
async def open_leadership(
    config: Config, location: Location, process: Process, *, run_id: str
) -> AsyncIterator[Leadership]:
    """Open what this process needs to become active; it asks for nothing yet.

    Args:
        config: Of the daemon.
        location: Of the store.
        process: This one.
        run_id: Of the owner of its lock.
    """
    note = HolderNote(
        config.uuid or socket.gethostname(), run_id, config.admin_address or "", process.clock(), __version__
    )
    async with AsyncExitStack() as stack:
        service: LockService | None = None
        patience = 0.0
        if config.locket_address is not None:
            client = await stack.enter_async_context(
                open_locket(config.locket_address, _locket_tls(config), _keep_alive(config))
            )
            service = LocketLock(client, ttl=int(config.lock_ttl), retry_interval=config.lock_retry_interval)
        elif location.server is not None:  # which other instances may use too
            # Nothing is connected yet: a server that is away is waited for with the health checks answering.
            database = await asyncio.to_thread(database_on, location.server)
            stack.push_async_callback(asyncio.to_thread, database.close)
            service = row = LockRow(database, ttl=config.lock_ttl)
            stack.callback(row.close)
            patience = config.lock_ttl + config.lock_retry_interval
        leadership = Leadership(config.lease_times, note, service, patience=patience)
        metrics, lease, standing = process.metrics, leadership.lease, leadership.standing
        metrics.instance.ready.set_function(lambda: not standing.position.obstacle)
        metrics.instance.lock_held.set_function(lambda: lease.is_active)
        metrics.instance.lease_remaining.set_function(lease.remaining)
        yield leadership


def _locket_tls(config: Config) -> MutualTls:
    ca, cert, key = config.locket_ca_cert_file, config.locket_client_cert_file, config.locket_client_key_file
    if ca is None or cert is None or key is None:
        raise AssertionError("the config was checked")
    return MutualTls(ca, cert, key)


def _keep_alive(config: Config) -> KeepAlive:
    return KeepAlive(config.locket_client_keepalive_time, config.locket_client_keepalive_timeout)
