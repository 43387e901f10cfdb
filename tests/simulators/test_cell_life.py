"""The life of an instance on the simulated cell: claimed, created, stopped, crashed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx
import pytest

from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPKey
from protos.bbs.actual_lrp_requests_pb2 import RetireActualLRPRequest
from protos.bbs.desired_lrp_pb2 import DesiredLRPUpdate
from tests.simulators import cell_failures, images
from tests.simulators import registry as registry_simulator
from tests.simulators.bbs import Bbs, actual, convergence, desired, serve_bbs
from tests.simulators.bbs.state import upsert_domain
from tests.simulators.bbs_probe import Clock, is_up, probe, some_lrp, states, until
from tests.simulators.cell import CellSettings, Exit, Sigterm, SimulatedCell
from tests.simulators.cell_network import ErrorResponse, Hangs, Refused, Slow
from tests.simulators.certificates import Certificates

pytestmark = pytest.mark.usefixtures("servers")

GUID = "some-guid"
HOST = "registry.example.com"
ROOTFS = f"docker://{HOST}/team/app#1"
OTHER = f"docker://{HOST}:5000/copy#latest"


@contextlib.asynccontextmanager
async def cell_for(
    certificates: Certificates, settings: CellSettings | None = None, now: Callable[[], int] | None = None
) -> AsyncIterator[tuple[Bbs, SimulatedCell]]:
    settings = settings or CellSettings(start_delay=0, stop_delay=0.02, failure_delay=0.01)
    served = serve_bbs(certificates) if now is None else serve_bbs(certificates, now=now)
    async with served as bbs, SimulatedCell(bbs, settings) as cell:
        yield bbs, cell


def row(bbs: Bbs, index: int = 0) -> ActualLRP:
    found = bbs.state.row(GUID, index)
    assert found is not None
    return found


def has_crashed(bbs: Bbs, count: int) -> bool:
    return (row(bbs).state, row(bbs).crash_count) == ("CRASHED", count)


async def test_an_instance_is_claimed_at_once_and_runs_after_its_pull(certificates: Certificates) -> None:
    async with cell_for(certificates) as (bbs, cell):
        cell.network.impose(HOST, Hangs())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CLAIMED"])
        await asyncio.sleep(0.1)
        assert states(bbs, GUID) == ["CLAIMED"]

        cell.network.mend(HOST)

        await until(is_up(bbs, GUID, 1))


async def test_a_stop_waits_for_the_end_of_the_pull_and_repeats_change_nothing(
    certificates: Certificates,
) -> None:
    async with cell_for(certificates) as (bbs, cell):
        cell.network.impose(HOST, Hangs())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CLAIMED"])
        (instance,) = cell.instances.values()

        desired.remove(bbs.state, GUID)
        for _ in range(3):
            assert cell.stop_lrp(instance.key, instance.instance_key.instance_guid) is None
        await asyncio.sleep(0.1)
        assert states(bbs, GUID) == ["CLAIMED"]
        assert cell.stop_requests[GUID] == 4

        cell.network.mend(HOST)
        await until(lambda: not states(bbs, GUID))
        assert cell.history == []
        assert cell.instances == {}


async def test_what_is_desired_again_in_a_pull_waits_for_its_end_and_for_convergence(
    certificates: Certificates,
) -> None:
    async with cell_for(certificates) as (bbs, cell):
        cell.network.impose(HOST, Hangs())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CLAIMED"])
        desired.remove(bbs.state, GUID)
        desired.desire(bbs.state, some_lrp(rootfs=OTHER))
        await asyncio.sleep(0.05)
        assert states(bbs, GUID) == ["CLAIMED"]

        cell.network.mend(HOST)
        await until(lambda: not states(bbs, GUID))
        await bbs.converge()

        await until(is_up(bbs, GUID, 1))
        assert cell.running(GUID, 0).rootfs == OTHER


async def test_a_call_that_retires_an_instance_in_creation_waits_for_the_cell(
    certificates: Certificates,
) -> None:
    """Until the BBS gives up the request and repeats it, which is answered at once."""
    async with cell_for(certificates) as (bbs, cell), probe(bbs) as client:
        bbs.rep_timeout = 0.2
        cell.network.impose(HOST, Hangs())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CLAIMED"])
        request = RetireActualLRPRequest(actual_lrp_key=row(bbs).actual_lrp_key)
        loop = asyncio.get_running_loop()

        durations = []
        for _ in range(2):
            begun = loop.time()
            await client.ok("/v1/actual_lrps/retire", request)
            durations.append(loop.time() - begun)

        assert durations[0] >= 0.2 > durations[1]
        assert cell.stop_requests[GUID] == 3


@pytest.mark.parametrize(
    ("reaction", "least", "most"),
    [(Sigterm.DIES, 0.0, 0.3), (Sigterm.FINISHES, 0.4, 0.9), (Sigterm.IGNORES, 1.0, 60.0)],
)
async def test_a_process_ends_as_it_takes_sigterm(
    certificates: Certificates, reaction: Sigterm, least: float, most: float
) -> None:
    settings = CellSettings(start_delay=0, stop_delay=0.4, kill_delay=1.0, on_sigterm=lambda _lrp: reaction)
    assert CellSettings().kill_delay == 10.8
    async with cell_for(certificates, settings) as (bbs, _):
        desired.desire(bbs.state, some_lrp())
        await until(is_up(bbs, GUID, 1))
        loop = asyncio.get_running_loop()
        begun = loop.time()

        desired.remove(bbs.state, GUID)
        if least:
            assert states(bbs, GUID) == ["RUNNING"]
        await until(lambda: not states(bbs, GUID))

        assert least <= loop.time() - begun <= most


async def test_a_process_that_is_not_healthy_yet_is_stopped_as_one_that_runs(
    certificates: Certificates,
) -> None:
    settings = CellSettings(start_delay=60, stop_delay=0.2)
    async with cell_for(certificates, settings) as (bbs, cell):
        desired.desire(bbs.state, some_lrp())
        await until(lambda: any(each.has_process for each in cell.instances.values()))
        desired.remove(bbs.state, GUID)
        await asyncio.sleep(0.05)
        assert states(bbs, GUID) == ["CLAIMED"]

        await until(lambda: not states(bbs, GUID))


async def test_three_failed_pulls_are_followed_by_longer_and_longer_waits(
    certificates: Certificates,
) -> None:
    clock = Clock()
    async with cell_for(certificates, now=clock) as (bbs, cell):
        cell.network.impose(HOST, Refused())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CRASHED"])
        text = (
            "failed to create container: running image plugin create: fetching image reference: creating image:"
            f' creating image source: pinging container registry {HOST}: Get "https://{HOST}/v2/":'
            f" dial tcp {HOST}:443: connect: connection refused\n: exit status 1"
        )
        assert (row(bbs).crash_count, row(bbs).crash_reason) == (3, text)
        assert row(bbs).actual_lrp_instance_key.cell_id == ""
        assert cell.problems == [text] * 3

        for count, seconds in enumerate((30, 60, 120, 240, 480, 960, 960), 4):
            clock.advance(seconds - 1)
            await bbs.converge()
            assert states(bbs, GUID) == ["CRASHED"]
            clock.advance(1)
            await bbs.converge()
            await until(partial(has_crashed, bbs, count))

        cell.network.mend()
        await asyncio.sleep(0.05)
        assert states(bbs, GUID) == ["CRASHED"]
        clock.advance(960)
        await bbs.converge()
        await until(is_up(bbs, GUID, 1))


async def test_a_test_may_shorten_the_waits_after_crashes(certificates: Certificates) -> None:
    async with cell_for(certificates) as (bbs, cell):
        bbs.state.crash_backoff = 0.05
        cell.network.impose(HOST, ErrorResponse(500))
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CRASHED"])
        cell.network.mend()
        await asyncio.sleep(0.06)

        await bbs.converge()

        await until(is_up(bbs, GUID, 1))


async def test_three_crashes_take_some_tenths_of_a_second(certificates: Certificates) -> None:
    async with cell_for(certificates, CellSettings()) as (bbs, cell):
        cell.network.impose(HOST, Refused())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))

        await until(lambda: states(bbs, GUID) == ["CRASHED"])

        assert loop.time() - begun >= 0.2


@pytest.mark.parametrize("is_race", [False, True])
async def test_a_removal_that_races_a_crash_may_leave_a_row_until_convergence(
    certificates: Certificates, *, is_race: bool
) -> None:
    clock = Clock()
    async with cell_for(certificates, now=clock) as (bbs, cell):
        cell.settings.crash_beats_stop = is_race
        upsert_domain(bbs.state, "some-domain", 0)
        cell.network.impose(HOST, Hangs())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CLAIMED"])
        desired.remove(bbs.state, GUID)

        cell.network.impose(HOST, Refused())

        await until(lambda: states(bbs, GUID) == (["UNCLAIMED"] if is_race else []))
        convergence.converge(bbs.state)
        assert states(bbs, GUID) == []


async def test_an_orphaned_row_stays_while_its_domain_is_not_fresh(certificates: Certificates) -> None:
    async with cell_for(certificates) as (bbs, cell):
        cell.settings.crash_beats_stop = True
        cell.network.impose(HOST, Hangs())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CLAIMED"])
        desired.remove(bbs.state, GUID)
        cell.network.impose(HOST, Refused())
        await until(lambda: states(bbs, GUID) == ["UNCLAIMED"])

        convergence.converge(bbs.state)
        assert states(bbs, GUID) == ["UNCLAIMED"]

        actual.retire(bbs.state, ActualLRPKey(process_guid=GUID, index=0, domain="some-domain"))
        assert states(bbs, GUID) == []


async def test_an_app_that_ends_by_itself_crashes_with_its_status(certificates: Certificates) -> None:
    settings = CellSettings(start_delay=0, exit=lambda _lrp: Exit(0.01, cell_failures.exited(3)))
    async with cell_for(certificates, settings) as (bbs, cell):
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))

        await until(lambda: states(bbs, GUID) == ["CRASHED"])

        assert row(bbs).crash_reason == "Exited with status 3"
        assert len(cell.history) == 3


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (
            cell_failures.no_such_program("/nope"),
            'exec failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory',
        ),
        (
            cell_failures.no_such_user("vcap"),
            "unable to find user vcap: no matching entries in passwd file",
        ),
    ],
)
async def test_a_process_that_cannot_be_started_crashes_without_having_run(
    certificates: Certificates, reason: str, text: str
) -> None:
    settings = CellSettings(start_delay=0, crash_reason=lambda _lrp: reason)
    async with cell_for(certificates, settings) as (bbs, cell):
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))

        await until(lambda: states(bbs, GUID) == ["CRASHED"])

        assert row(bbs).crash_reason == text
        assert cell.history == []


async def test_a_long_crash_reason_is_cut(certificates: Certificates) -> None:
    async with cell_for(certificates) as (bbs, cell):
        cell.network.impose(HOST, ErrorResponse(403, "x" * 2000))
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID) == ["CRASHED"])

        assert len(row(bbs).crash_reason) == 1024
        assert row(bbs).crash_reason.endswith("(truncated)")


async def test_instances_of_an_image_share_its_layers(certificates: Certificates) -> None:
    async with cell_for(certificates) as (bbs, cell):
        cell.network.impose(HOST, Slow(seconds=0.1))
        desired.desire(bbs.state, some_lrp(instances=3, rootfs=ROOTFS))
        await until(is_up(bbs, GUID, 3))
        assert (cell.network.requests(HOST, "manifest"), cell.network.requests(HOST, "layer")) == (3, 1)

        assert cell.clean() == frozenset()
        desired.remove(bbs.state, GUID)
        await until(lambda: not cell.instances)
        assert len(cell.clean()) == 1


async def test_a_reservation_without_a_row_keeps_its_room_for_some_time(certificates: Certificates) -> None:
    settings = CellSettings(start_delay=0, memory_mb=100, poll_interval=0.1)
    lrp = some_lrp()
    lrp.memory_mb = 60
    async with cell_for(certificates, settings) as (bbs, cell):
        desired.desire(bbs.state, lrp)
        desired.remove(bbs.state, GUID)
        await asyncio.sleep(0.05)
        assert len(cell.instances) == 1

        desired.desire(bbs.state, lrp)  # another place for it is not to be had, but that one
        assert row(bbs).placement_error == "insufficient resources: memory"
        await until(is_up(bbs, GUID, 1))


async def test_a_stale_reservation_is_given_up(certificates: Certificates) -> None:
    async with cell_for(certificates) as (bbs, cell):
        cell.settings.poll_interval = 0.02
        desired.desire(bbs.state, some_lrp())
        desired.remove(bbs.state, GUID)

        await until(lambda: not cell.instances)


async def test_a_login_that_is_updated_is_used_by_instances_that_are_created_later(
    certificates: Certificates,
) -> None:
    """The one that runs is not touched: nothing is stopped, and nothing pulled."""
    with registry_simulator.serve() as registry:
        registry.login = registry_simulator.BasicLogin({"second": "two"})
        client_map = {registry.address: registry.url}
        settings = CellSettings(start_delay=0, stop_delay=0.02, failure_delay=0.01, registry_map=client_map)
        async with cell_for(certificates, settings) as (bbs, cell):
            login = httpx.BasicAuth("second", "two")
            with httpx.Client(base_url=registry.url, auth=login) as client:
                images.push_image(client, "team/app", "1", images.image([images.layer(4000, 1)]))
            lrp = some_lrp(rootfs=f"docker://{registry.address}/team/app#1")
            lrp.image_username, lrp.image_password = "second", "two"
            desired.desire(bbs.state, lrp)
            await until(is_up(bbs, GUID, 1))
            (first,) = cell.instances
            requests = len(registry.requests)

            desired.update(bbs.state, GUID, DesiredLRPUpdate(image_username="third", image_password="3"))
            await asyncio.sleep(0.1)
            assert list(cell.instances) == [first]
            assert len(registry.requests) == requests

            desired.update(bbs.state, GUID, DesiredLRPUpdate(instances=2))
            await until(lambda: "authentication required" in row(bbs, 1).crash_reason)
            assert row(bbs, 0).state == "RUNNING"
