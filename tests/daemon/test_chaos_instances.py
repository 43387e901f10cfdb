"""Everything goes wrong around several instances; `hack/chaos --instances 3 --database postgresql` does it for longer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.chaos import INSTANCE_FAULTS, SHARED_FAULTS, Database, Settings, run_round

SECONDS = 8.0
"""Of trouble for each seed."""
APPS = 3
SEEDS = [301, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(302, 308))]
LOSS_SEEDS = [pytest.param(seed, marks=pytest.mark.long) for seed in range(401, 407)]
LOSS_SECONDS = 30.0
"""Of trouble with faults, which need apps that run from their copies."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
async def test_one_instance_at_a_time_acts_whatever_goes_wrong(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = Settings(apps=APPS, instances=3, database=Database.POSTGRESQL, faults=INSTANCE_FAULTS)
    report = await run_round(seed, SECONDS, tmp_path, settings)
    record_property("figures", str(report))

    assert report.problems == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", LOSS_SEEDS)
async def test_one_instance_at_a_time_acts_whatever_is_lost_and_changed(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = Settings(apps=APPS, instances=3, database=Database.POSTGRESQL, faults=SHARED_FAULTS)
    report = await run_round(seed, LOSS_SECONDS, tmp_path, settings)
    record_property("figures", str(report))

    assert report.problems == []
