"""Uploads that a crash has left are cancelled by the next process."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from controller.abandoned_uploads import LOOK_INTERVAL, AbandonedUploads
from reconcile.copying_ports import OpenUpload
from reconcile.errors import Unavailable
from reconcile.references import parse_image_reference

TARGET = parse_image_reference("cache.example:8080/9b2f0a4e-5d0c-4c3e-9a52-2f0c8f6c2b11:latest")
ONE, TWO = (
    OpenUpload(TARGET, "https://cache.example:8080/1"),
    OpenUpload(TARGET, "https://cache.example:8080/2"),
)


@dataclass
class Engine:
    """An engine with uploads under way."""

    uploads: tuple[OpenUpload, ...] = ()
    cancelled: list[OpenUpload] = field(default_factory=list)

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        return self.uploads

    async def cancel_upload(self, upload: OpenUpload) -> bool:
        self.cancelled.append(upload)
        return upload is ONE


@dataclass
class Records:
    """A store that may be locked."""

    kept: tuple[OpenUpload, ...] = ()
    saves: int = 0
    failures: int = 0

    async def list_uploads(self) -> tuple[OpenUpload, ...]:
        self._fail()
        return self.kept

    async def save_uploads(self, uploads: Iterable[OpenUpload]) -> None:
        self._fail()
        self.kept = tuple(uploads)
        self.saves += 1

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("store", "locked", "x")


async def run(engine: Engine, records: Records, looks: int = 1) -> None:
    """Run the loop for a number of looks."""
    with suppress(TimeoutError):
        async with asyncio.timeout(looks * LOOK_INTERVAL - 1.0):
            await AbandonedUploads(engine, records).run()


@pytest.mark.looptime
async def test_what_an_earlier_process_left_is_cancelled_once_and_forgotten() -> None:
    engine, records = Engine(), Records((ONE, TWO))

    await run(engine, records)
    await run(engine, records)

    assert engine.cancelled == [ONE, TWO]
    assert records.kept == ()


@pytest.mark.looptime
async def test_what_is_under_way_is_kept_and_written_only_when_it_changes() -> None:
    engine, records = Engine((ONE,)), Records()

    await run(engine, records, looks=5)

    assert records.kept == (ONE,)
    assert records.saves == 1
    assert engine.cancelled == []


@pytest.mark.looptime
async def test_a_process_without_long_uploads_writes_nothing() -> None:
    records = Records()

    await run(Engine(), records, looks=5)

    assert records.saves == 0


@pytest.mark.looptime
async def test_a_store_that_is_locked_is_asked_again() -> None:
    engine, records = Engine((TWO,)), Records(failures=2)

    await run(engine, records, looks=3)

    assert records.kept == (TWO,)
