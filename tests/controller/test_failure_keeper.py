"""Failures of failures count in the next process, whatever the store says meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controller.failure_keeper import FailureKeeper
from reconcile.circuit_breaker import CircuitBreaker, CircuitBreakers, FailureRecord, MigrationSubject, Scope
from reconcile.errors import Unavailable

pytestmark = pytest.mark.looptime

NOW = 1000.0


def subject(number: int, image: str = "") -> MigrationSubject:
    return MigrationSubject(f"app-{number}", f"org-{number}", image or f"image-{number}")


@dataclass
class Store:
    """Keeps failures, unless it is away."""

    kept: dict[Scope, FailureRecord] = field(default_factory=dict)
    is_away: bool = False
    written: list[tuple[int, int]] = field(default_factory=list)

    async def list_failures(self) -> tuple[FailureRecord, ...]:
        return tuple(self.kept.values())

    async def save_failures(self, changed: Sequence[FailureRecord], ended: Collection[Scope]) -> None:
        self.written.append((len(changed), len(ended)))
        if self.is_away:
            raise Unavailable("store", "away", "the database does not answer")
        for scope in [*(each.scope for each in changed), *ended]:
            self.kept.pop(scope, None)
        self.kept |= {each.scope: each for each in changed}


@dataclass
class Failures:
    """Counts failures as MigrationFailures does."""

    breakers: CircuitBreakers = field(default_factory=lambda: CircuitBreakers(CircuitBreaker(2, 60.0)))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def records(self) -> tuple[FailureRecord, ...]:
        return self.breakers.failures

    def restore(self, records: Sequence[FailureRecord]) -> None:
        self.breakers.restore(records)

    def fail(self, number: int, image: str = "") -> None:
        self.breakers.failed(subject(number, image), f"failure {number}", NOW)
        self.changed.set()

    def succeed(self, number: int) -> None:
        self.breakers.succeeded(subject(number))
        self.changed.set()


@asynccontextmanager
async def running(keeper: FailureKeeper) -> AsyncIterator[None]:
    task = asyncio.ensure_future(keeper.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def restarted(store: Store) -> Failures:
    failures = Failures()
    await FailureKeeper(failures, store).load()
    return failures


async def test_a_later_process_finds_the_circuit_breaker_open() -> None:
    store, failures = Store(), Failures()
    async with running(FailureKeeper(failures, store)):
        failures.fail(1)
        failures.fail(2)
        await asyncio.sleep(1)

    later = await restarted(store)
    assert later.breakers.overall.is_open
    assert later.breakers.overall.retry_at == failures.breakers.overall.retry_at
    assert later.records == failures.records


async def test_what_is_set_aside_stays_so_in_the_same_order() -> None:
    store, failures = Store(), Failures()
    async with running(FailureKeeper(failures, store)):
        for number, image in [(1, "bad"), (2, "bad"), (3, "worse"), (1, "worse")]:
            failures.fail(number, image)
            await asyncio.sleep(1)

    later = await restarted(store)
    assert {each.image for each in later.breakers.set_aside} >= {"bad", "worse"}
    assert later.breakers.set_aside == failures.breakers.set_aside
    assert later.breakers.set_aside_for(subject(9, "bad"), NOW) is not None
    assert later.breakers.set_aside_for(subject(9, "good"), NOW) is None


async def test_a_success_or_a_reset_closes_it_for_later_processes_too() -> None:
    store, failures = Store(), Failures()
    async with running(FailureKeeper(failures, store)):
        failures.fail(1)
        failures.fail(2)
        await asyncio.sleep(1)
        failures.succeed(1)
        await asyncio.sleep(1)
        assert not (await restarted(store)).breakers.overall.is_open
        assert store.kept

        failures.breakers.close_all()
        failures.changed.set()
        await asyncio.sleep(1)
    assert store.kept == {}


async def test_only_what_has_changed_is_written() -> None:
    store, failures = Store(), Failures()
    keeper = FailureKeeper(failures, store)
    failures.fail(1)
    await keeper.save()
    failures.breakers.started(subject(1))
    await keeper.save()
    failures.fail(2)
    await keeper.save()

    assert store.written == [(4, 0), (4, 0)], "all failures and three scopes of the one that failed"


async def test_a_failure_waits_while_the_store_takes_nothing() -> None:
    store, failures = Store(is_away=True), Failures()
    async with running(FailureKeeper(failures, store)):
        failures.fail(1)
        await asyncio.sleep(100)
        assert 3 < len(store.written) < 20
        store.is_away = False
        await asyncio.sleep(100)

    assert (await restarted(store)).records == failures.records
