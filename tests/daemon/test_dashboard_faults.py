"""The dashboard over two real instances and a real Prometheus, as hack/dashboard shows it."""

import os
from pathlib import Path

import pytest

from hack.grafana.meeting import meet
from hack.grafana.prometheus import is_installed
from tests import databases


@pytest.mark.long
async def test_it_says_that_the_private_registry_is_down_and_that_nobody_is_active(tmp_path: Path) -> None:
    """What the other faults show is looked at by people: see the script."""
    if not (is_installed() and databases.is_installed("postgresql")):
        assert os.environ.get("CI") != "true"
        pytest.skip("no Prometheus or no PostgreSQL here")
    shown = list[str]()

    unseen = await meet(tmp_path, ("none", "private-registry-down", "lease-lost"), shown.append)

    assert unseen == []
    well, down, nobody = shown
    assert "Are they safe?: [green] Yes" in well
    assert "Instances of the daemon: active 1 · standing by 1" in well
    assert "What is wrong now, and what it costs: (Nothing that the daemon can tell is wrong)" in well
    assert "Are they safe?: [red] No" in down
    assert "[red] critical" in down
    assert "Serves pulls: [red] no" in down
    assert "Are they safe?: [purple] Nobody knows" in nobody
    assert "Instances of the daemon: active 0 · standing by 2" in nobody
