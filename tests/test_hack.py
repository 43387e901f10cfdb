"""The scripts for people and CI, as far as no other test runs them."""

import subprocess
from pathlib import Path

import pytest

from hack.bench.capi_requests import measure
from hack.reference import statuses_text

ROOT = Path(__file__).parent.parent


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("arguments", [["--slow"], ["--fast", "--long"], ["tests"]])
def test_the_gate_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """A gate that took less for more would pass what nobody has looked at."""
    ended = subprocess.run([ROOT / "hack/check", *arguments], capture_output=True, text=True, check=False)

    assert ended.returncode == 3
    assert "hack/check --fast" in ended.stderr


@pytest.mark.usefixtures("servers")
async def test_a_staging_costs_three_requests_to_cloud_controller_and_an_earlier_droplet_two() -> None:
    """The limit of requests is what a platform has least of, so what droplets cost is held where it is."""
    in_time, late, first, second, restore = await measure(3, 4)

    each = {"GET /v3/builds/:guid": 3, "GET /v3/droplets/:guid": 3, "PATCH /v3/droplets/:guid": 3}
    changes = {"GET /v3/droplets": 1, "GET /v3/droplets/:guid": 4, "PATCH /v3/droplets/:guid": 4}
    assert (in_time.requests, late.requests) == (each, each)
    assert first.requests == {**changes, "GET /": 1, "GET /v3/builds": 1}
    assert second.requests == {"GET /v3/droplets": 1}
    assert restore.requests == changes


def test_statuses_in_a_row_are_written_as_a_range() -> None:
    assert statuses_text({500, 501, 502, 404, 408, 407}) == "404, 407-408, 500-502"
    assert statuses_text(()) == ""
