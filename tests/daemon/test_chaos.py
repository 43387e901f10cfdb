"""Everything goes wrong at once, from 20 different seeds; `hack/chaos` does it for longer."""

import asyncio
from pathlib import Path

import pytest

from tests.daemon.chaos import Report, run_round

SEEDS = range(20)
AT_A_TIME = 6
SECONDS = 8.0
"""Of trouble for each seed; what comes to rest after it takes a minute, when answers were lost."""


@pytest.mark.timeout(900)
async def test_no_app_is_harmed_whatever_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = asyncio.Semaphore(AT_A_TIME)

    async def run(seed: int) -> Report:
        async with places:
            return await run_round(seed, SECONDS, tmp_path / f"seed-{seed}")

    for seed in SEEDS:
        (tmp_path / f"seed-{seed}").mkdir()
    reports = await asyncio.gather(*map(run, SEEDS))
    with capsys.disabled():
        print()  # noqa: T201 - the counts are what a reader of the test's output wants to see
        for report in reports:
            print(report)  # noqa: T201

    assert [(report.seed, report.told or report.violations) for report in reports if report.violations] == []
