"""Where instances and tasks are placed among several simulated cells."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from protos.bbs.task_pb2 import Task
from tests.simulators.bbs import Bbs, desired, serve_bbs, tasks
from tests.simulators.bbs_probe import is_up, some_lrp, some_task, states, until
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.cell_network import Refused
from tests.simulators.certificates import Certificates

pytestmark = pytest.mark.usefixtures("servers")

GUID = "some-guid"
HOST = "registry.example.com"
ROOTFS = f"docker://{HOST}/team/app#1"


@contextlib.asynccontextmanager
async def cells_for(
    certificates: Certificates, *settings: CellSettings
) -> AsyncIterator[tuple[Bbs, list[SimulatedCell]]]:
    async with serve_bbs(certificates) as bbs, contextlib.AsyncExitStack() as stack:
        yield bbs, [await stack.enter_async_context(SimulatedCell(bbs, each)) for each in settings]


def quick(number: int, **others: object) -> CellSettings:
    made = CellSettings(
        cell_id=f"cell-{number}", start_delay=0, stop_delay=0, failure_delay=0.01, task_delay=0
    )
    for name, value in others.items():
        setattr(made, name, value)
    return made


def held(cells: list[SimulatedCell], guid: str = GUID) -> list[int]:
    return [Counter(each.key.process_guid for each in cell.instances.values())[guid] for cell in cells]


async def test_instances_of_one_lrp_are_spread(certificates: Certificates) -> None:
    async with cells_for(certificates, *map(quick, range(3))) as (bbs, cells):
        desired.desire(bbs.state, some_lrp(instances=7))
        await until(is_up(bbs, GUID, 7))
        assert sorted(held(cells)) == [2, 2, 3]


async def test_one_instance_more_than_needed_lands_on_another_cell(certificates: Certificates) -> None:
    async with cells_for(certificates, quick(1), quick(2)) as (bbs, cells):
        desired.desire(bbs.state, some_lrp())
        await until(is_up(bbs, GUID, 1))
        desired.desire(bbs.state, some_lrp("bridge", instances=2))
        await until(is_up(bbs, "bridge", 2))

        assert held(cells, "bridge") == [1, 1]


async def test_of_equal_cells_the_one_with_more_room_is_taken(certificates: Certificates) -> None:
    async with cells_for(certificates, quick(1, memory_mb=1000), quick(2, memory_mb=4000)) as (bbs, cells):
        for number in range(3):
            lrp = some_lrp(f"guid-{number}")
            lrp.memory_mb = 400
            desired.desire(bbs.state, lrp)
            await until(is_up(bbs, lrp.process_guid, 1))

        assert [len(cell.instances) for cell in cells] == [0, 3]


async def test_zones_are_filled_evenly_before_cells(certificates: Certificates) -> None:
    places = (quick(1, zone="z1"), quick(2, zone="z1"), quick(3, zone="z2"))
    async with cells_for(certificates, *places) as (bbs, cells):
        desired.desire(bbs.state, some_lrp(instances=4))
        await until(is_up(bbs, GUID, 4))

        assert held(cells) == [1, 1, 2]


async def test_an_instance_that_crashes_moves_between_cells(certificates: Certificates) -> None:
    async with cells_for(certificates, quick(1), quick(2)) as (bbs, cells):
        for cell in cells:
            cell.network.impose(HOST, Refused())
        desired.desire(bbs.state, some_lrp(rootfs=ROOTFS))

        await until(lambda: states(bbs, GUID) == ["CRASHED"])

        assert sorted(len(cell.problems) for cell in cells) == [1, 2]


async def test_one_cell_of_two_that_cannot_pull_fails_only_what_comes_to_it(
    certificates: Certificates,
) -> None:
    async with cells_for(certificates, quick(1), quick(2)) as (bbs, cells):
        cells[1].network.impose(HOST, Refused())
        desired.desire(bbs.state, some_lrp(instances=2, rootfs=ROOTFS))
        await until(lambda: states(bbs, GUID).count("RUNNING") > 0 and not hanging(bbs))

        assert [len(cell.store.held) for cell in cells] == [1, 0]
        assert len(cells[0].history) == states(bbs, GUID).count("RUNNING")
        assert cells[1].problems


def hanging(bbs: Bbs) -> bool:
    return bool({"CLAIMED", "UNCLAIMED"} & set(states(bbs, GUID)))


async def test_an_isolation_segment_is_reached_with_its_tags_only(certificates: Certificates) -> None:
    async with cells_for(certificates, quick(1), quick(2, placement_tags=("iso",))) as (bbs, cells):
        desired.desire(bbs.state, some_lrp(instances=2))
        lrp = some_lrp("isolated", instances=2)
        lrp.PlacementTags.append("iso")
        desired.desire(bbs.state, lrp)
        await until(is_up(bbs, GUID, 2))
        await until(is_up(bbs, "isolated", 2))

        assert (held(cells), held(cells, "isolated")) == ([2, 0], [0, 2])


@pytest.mark.parametrize(
    ("lacks", "problem"),
    [
        ([{"memory_mb": 10}, {"memory_mb": 10}], "insufficient resources: memory"),
        ([{"disk_mb": 10}, {"disk_mb": 10}], "insufficient resources: disk"),
        ([{"containers": 0}, {"containers": 0}], "insufficient resources: containers"),
        ([{"memory_mb": 10, "disk_mb": 10}, {"disk_mb": 10}], "insufficient resources: disk"),
        ([{"memory_mb": 10}, {"disk_mb": 10}], "insufficient resources"),
        (
            [{"offers_docker": False}, {"offers_docker": False}],
            "found no compatible cell for required rootfs",
        ),
    ],
)
async def test_the_placement_error_names_what_all_cells_lack(
    certificates: Certificates, lacks: list[dict[str, int]], problem: str
) -> None:
    async with cells_for(certificates, *(quick(at, **each) for at, each in enumerate(lacks))) as (bbs, _):
        lrp = some_lrp(rootfs=ROOTFS)
        lrp.memory_mb = lrp.disk_mb = 100
        desired.desire(bbs.state, lrp)

        row = bbs.state.row(GUID, 0)
        assert row is not None
        assert (row.state, row.placement_error) == ("UNCLAIMED", problem)


async def test_room_that_becomes_free_is_found_by_convergence_alone(certificates: Certificates) -> None:
    async with cells_for(certificates, quick(1, memory_mb=100)) as (bbs, cells):
        lrp = some_lrp()
        lrp.memory_mb = 200
        desired.desire(bbs.state, lrp)
        cells[0].settings.memory_mb = 1000
        await bbs.converge()
        assert states(bbs, GUID) == ["UNCLAIMED"]

        bbs.state.stale_unclaimed = 0
        await bbs.converge()

        await until(is_up(bbs, GUID, 1))


async def test_tasks_are_spread_and_take_room(certificates: Certificates) -> None:
    async with cells_for(certificates, quick(1, containers=1), quick(2, containers=1)) as (bbs, cells):
        for cell in cells:
            cell.task_gate.clear()
        for guid in ("a", "b", "c"):
            tasks.desire(bbs.state, guid, "some-domain", some_task())
        await until(lambda: [bbs.state.tasks[guid].state for guid in "ab"] == [Task.Running] * 2)

        assert {bbs.state.tasks[guid].cell_id for guid in "ab"} == {"cell-1", "cell-2"}
        waiting = bbs.state.tasks["c"]
        assert (waiting.state, waiting.rejection_count) == (Task.Pending, 1)
        assert waiting.rejection_reason == "insufficient resources: containers"
