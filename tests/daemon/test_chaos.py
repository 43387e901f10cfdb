"""Everything goes wrong at once, each seed in its own way; `hack/chaos` does it for longer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.chaos import Settings, run_round

SEEDS = [*range(5), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 20))]
SECONDS = 8.0
"""Of trouble for each seed."""
APPS = 6


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
async def test_no_app_is_harmed_whatever_goes_wrong(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    report = await run_round(seed, SECONDS, tmp_path, Settings(apps=APPS))
    record_property("figures", str(report))

    assert (report.told or report.violations) == []
