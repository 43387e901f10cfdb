"""Everything goes wrong at once, each seed in its own way; `hack/chaos` does it for longer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.chaos import ALL_FAULTS, CLOUD_CONTROLLER_FAULTS, Settings, run_round

SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 20))]
SECONDS = 8.0
"""Of trouble for each seed."""
APPS = 6
FROM_SOURCES = 12
"""The first seed whose daemon knows of no Cloud Controller, which so desires all from sources again and again."""
FAULT_SEEDS = [100, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(101, 112))]
FAULT_SECONDS = 15.0
"""Of trouble with faults, which need apps that run from their copies."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
async def test_no_app_is_harmed_whatever_goes_wrong(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = Settings(apps=APPS, cloud_controller=seed < FROM_SOURCES)
    report = await run_round(seed, SECONDS, tmp_path, settings)
    record_property("figures", str(report))

    assert report.problems == []


DROPLET_SEEDS = [201, *(pytest.param(seed, marks=pytest.mark.long) for seed in (203, 205, 207))]
DROPLET_SECONDS = 8.0
"""Of trouble with Cloud Controller's API."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", FAULT_SEEDS)
async def test_no_app_is_harmed_whatever_is_lost_and_changed(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    report = await run_round(seed, FAULT_SECONDS, tmp_path, Settings(apps=APPS, faults=ALL_FAULTS))
    record_property("figures", str(report))

    assert report.problems == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", DROPLET_SEEDS)
async def test_droplets_name_copies_that_are_there_and_lose_nothing_whatever_cloud_controller_answers(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = Settings(apps=APPS, operators=True, faults=CLOUD_CONTROLLER_FAULTS)
    report = await run_round(seed, DROPLET_SECONDS, tmp_path, settings)
    record_property("figures", str(report))

    assert report.problems == []
    assert report.happened["droplets given a copy"] > 0
