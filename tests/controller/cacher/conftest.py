"""A store, and a cacher at work over it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.store.opening import Store
from tests.controller.cacher.bench import Bench, Registries, open_bench
from tests.stores import open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/store/cache.db", journal_key=None, run_id="r") as opened:
        yield opened


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    async with open_bench(store, Registries()) as opened:
        yield opened
