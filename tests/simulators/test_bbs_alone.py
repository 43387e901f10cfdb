"""The simulated BBS as a program of its own, and what is left when it has ended."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

from protos.bbs.desired_lrp_requests_pb2 import DesiredLRPsRequest, DesiredLRPsResponse
from tests.simulators.bbs import desired, serve_bbs
from tests.simulators.bbs_probe import INSTANCES, is_up, probe, raw_stream, some_lrp, until
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates, Pair, client_context
from tests.simulators.cloud_controller import CloudController, InProcess

pytestmark = pytest.mark.usefixtures("servers")

LIMIT = 60.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_runs_alone_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    arguments = (
        "--certificates",
        str(tmp_path),
        "--version",
        "2024",
        "--task-delay",
        "0",
        "--push",
        "web=busybox",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.simulators.bbs",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        ready = json.loads(await process.stdout.readline())
        pushed = json.loads(await process.stdout.readline())
        context = client_context(Path(ready["ca"]), Pair(Path(ready["certificate"]), Path(ready["key"])))
        async with httpx.AsyncClient(verify=context, base_url=ready["url"]) as client:
            body = DesiredLRPsRequest(domain="cf-apps").SerializeToString()
            answer = await client.post("/v1/desired_lrps/list.r3", content=body)
        process.send_signal(number)
        left, _ = await process.communicate()

    listed = DesiredLRPsResponse.FromString(answer.content).desired_lrps
    assert [lrp.process_guid for lrp in listed] == [pushed["process_guid"]]
    assert (process.returncode, left) == (0, b"")


async def test_nothing_is_left_when_it_ends_in_the_middle_of_everything(certificates: Certificates) -> None:
    """A stream open, a callback under way, an instance starting, events held back."""
    before = asyncio.all_tasks()
    async with (
        serve_bbs(certificates, converge_interval=0.001) as bbs,
        SimulatedCell(bbs, CellSettings(start_delay=0, stop_delay=60)) as cell,
        CloudController(InProcess(bbs), interval=0.001) as controller,
        probe(bbs) as probed,
        raw_stream(bbs, INSTANCES),
    ):
        await probed.client.post("/v1/ping")
        desired.desire(bbs.state, some_lrp())
        await until(is_up(bbs, "some-guid", 1))
        await until(lambda: controller.bumps > 0)
        cell.start_gate.clear()
        bbs.state.events.reorder(1, 60)
        desired.desire(bbs.state, some_lrp("starting"))
        desired.remove(bbs.state, "some-guid")

    await until(lambda: asyncio.all_tasks() == before)
