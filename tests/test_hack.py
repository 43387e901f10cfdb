"""The scripts for people and CI, as far as no other test runs them."""

import asyncio
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from hack.bench.capi_requests import measure
from hack.reference import statuses_text
from tests.documents import ROOT, Block, blocks_run_by
from tests.simulators.bbs import serve_bbs
from tests.simulators.certificates import make_certificates

LEAST = {
    "hack/bench/copy": "--rounds 1 small",
    "hack/bench/fairness": "--rounds 1",
    "hack/bench/watch": "--minutes 0.05 10",
    "hack/bench/requests": "--stagings 3 --apps 4",
}
"""What a benchmark is told so that it measures as little as it can."""
BENCHMARKS = [block for block in blocks_run_by(__file__) if "hack/bench/" in block.text]
CONTRACTS = [block for block in blocks_run_by(__file__) if block not in BENCHMARKS]


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


def test_each_benchmark_that_is_documented_is_run() -> None:
    assert {block.commands[0].split()[0] for block in BENCHMARKS} == set(LEAST)


@pytest.mark.usefixtures("servers")
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", BENCHMARKS, ids=lambda block: block.where)
def test_a_benchmark_prints_what_its_page_shows(block: Block) -> None:
    (command,) = block.commands
    program, *options = command.split()
    least = LEAST[program].split()
    assert set(options[::2]) <= set(least)

    ended = subprocess.run([ROOT / program, *least], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert without_numbers(ended.stdout.splitlines()[0]) == without_numbers(block.lines[1])


def without_numbers(line: str) -> str:
    return " ".join(re.sub(r"[0-9.,]+", "N", line).split())


@pytest.mark.usefixtures("servers")
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_contract_suite_runs_against_the_bbs_that_variables_name(tmp_path: Path) -> None:
    ((command,),) = (block.commands for block in CONTRACTS)
    certificates = make_certificates(tmp_path / "certificates")
    pair, called = certificates.client, set[str]()
    async with serve_bbs(certificates) as bbs:
        here = {
            "https://127.0.0.1:8889": bbs.url,
            "ca.crt": str(certificates.ca),
            "client.crt": str(pair.certificate),
            "client.key": str(pair.key),
        }
        bbs.named_callers.append(lambda _, path: called.add(path))
        words = [word for word in shlex.split(command) if word.strip()]
        named = dict(word.split("=", 1) for word in words if "=" in word)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

        ended = await asyncio.to_thread(
            subprocess.run,
            [word for word in words if "=" not in word],
            cwd=ROOT,
            env=environment | {name: here[value] for name, value in named.items()},
            capture_output=True,
            text=True,
            check=False,
        )

    assert ended.returncode == 0, ended.stdout[-3000:]
    assert called


def test_statuses_in_a_row_are_written_as_a_range() -> None:
    assert statuses_text({500, 501, 502, 404, 408, 407}) == "404, 407-408, 500-502"
    assert statuses_text(()) == ""
