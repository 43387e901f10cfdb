"""What any BBS must do with actual LRPs; the suite plays the cell's part where none is needed."""

import os
from collections.abc import Awaitable, Callable, Iterable

import pytest

from protos.bbs import actual_lrp_requests_pb2 as actual_requests
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from reconcile.errors import NotFound
from reconcile.events import (
    ActualLrpRemoved,
)
from reconcile.lrps import (
    ActualLrp,
    ActualLrpState,
    Presence,
    ProcessGuid,
)
from tests.contracts.bbs_scene import (
    Scene,
    eventually,
    is_row,
    read_until,
)
from tests.contracts.bbs_targets import OnRealBbs, OnSimulator2024, OnSimulator2026


class BbsInstancesContract:
    """What any BBS must do; the other half of a test class says which BBS."""

    async def test_an_instance_is_unclaimed_then_claimed_then_running_then_gone(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp(instances=2))
        client = scene.client
        assert [row.state for row in await client.list_actual_lrps(guid)] == [ActualLrpState.UNCLAIMED] * 2

        await scene.claim(guid, scene.instance("i"), index=1)
        (claimed,) = [row for row in await client.list_actual_lrps(guid) if row.index == 1]
        await scene.start(guid, scene.instance("i"), index=1)
        (running,) = [row for row in await client.list_actual_lrps(guid) if row.index == 1]
        assert (claimed.state, running.state) == (ActualLrpState.CLAIMED, ActualLrpState.RUNNING)
        assert (running.instance_guid, running.cell_id) == ("i", scene.cell_id)
        assert (running.domain, running.presence, running.routable) == (scene.domain, Presence.ORDINARY, True)
        assert running.tag.epoch == claimed.tag.epoch
        assert running.tag.supersedes(claimed.tag)

        await scene.drop_row(guid, index=1)
        assert [row.index for row in await client.list_actual_lrps(guid)] == [0]

    async def test_the_third_crash_in_a_row_is_not_restarted_at_once(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        states = []
        for name in ("one", "two", "three"):
            await scene.start(guid, scene.instance(name))
            await scene.crash(guid, scene.instance(name))
            (row,) = await scene.client.list_actual_lrps(guid)
            states.append(row.state)
            assert (row.instance_guid, row.cell_id) == ("", "")

        assert states == [ActualLrpState.UNCLAIMED, ActualLrpState.UNCLAIMED, ActualLrpState.CRASHED]
        (message,) = await scene.rows(guid)
        assert (message.crash_count, message.crash_reason) == (3, "boom")

    async def test_crashes_in_a_row_are_counted_and_a_failed_placement_is_named(self, scene: Scene) -> None:
        """What tells a bridge that crashes from one that finds no place."""
        guid = await scene.desire(scene.lrp())
        for name in ("one", "two"):
            await scene.start(guid, scene.instance(name))
            await scene.crash(guid, scene.instance(name))
        request = actual_requests.FailActualLRPRequest(
            actual_lrp_key=scene.key(guid), error_message="insufficient resources"
        )
        await scene.do("/v1/actual_lrps/fail", request)

        (row,) = await scene.client.list_actual_lrps(guid)
        assert (row.crash_count, row.placement_error) == (2, "insufficient resources")

    async def test_a_failed_placement_leaves_the_instance_unclaimed(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        request = actual_requests.FailActualLRPRequest(
            actual_lrp_key=scene.key(guid), error_message="insufficient resources"
        )
        await scene.do("/v1/actual_lrps/fail", request)
        (row,) = await scene.rows(guid)
        assert (row.state, bool(row.placement_error)) == ("UNCLAIMED", True)

        await scene.start(guid, scene.instance())
        error = await scene.send("/v1/actual_lrps/fail", request)
        assert error is not None
        assert (error.type, error.message) == (Error.ActualLRPCannotBeFailed, "cannot fail actual LRP")

    async def test_another_instance_cannot_claim_what_runs(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance("one"))
        request = actual_requests.ClaimActualLRPRequest(
            process_guid=guid, index=0, actual_lrp_instance_key=scene.instance("two")
        )
        error = await scene.send("/v1/actual_lrps/claim", request)

        assert error is not None
        assert (error.type, error.message) == (Error.ActualLRPCannotBeClaimed, "cannot claim actual LRP")

    async def test_a_removed_lrp_leaves_rows_of_running_instances_behind(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp(instances=2))
        await scene.start(guid, scene.instance())

        await scene.client.remove_desired_lrp(guid)

        assert await scene.client.find_desired_lrp(guid) is None

        async def only_the_running_one_is_left() -> bool:
            rows = await scene.client.list_actual_lrps(guid)
            return [(row.index, row.state) for row in rows] == [(0, ActualLrpState.RUNNING)]

        await eventually(only_the_running_one_is_left)
        with pytest.raises(NotFound):
            await scene.client.remove_desired_lrp(guid)

    async def test_a_new_definition_over_a_running_row_starts_nothing(self, scene: Scene) -> None:
        """Why a migration waits until no row is left."""
        message = scene.lrp()
        guid = await scene.desire(message)
        await scene.start(guid, scene.instance("old"))
        await scene.client.remove_desired_lrp(guid)

        await scene.desire(message)

        (row,) = await scene.client.list_actual_lrps(guid)
        assert (row.state, row.instance_guid) == (ActualLrpState.RUNNING, "old")

    async def test_a_retired_instance_on_a_lost_cell_is_gone_at_once(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance())
        async with scene.client.subscribe_lrp_instances() as events:
            await scene.client.retire_actual_lrp(guid, index=0, domain=scene.domain)
            (removed,) = await read_until(events, is_row(ActualLrpRemoved, guid))

        assert isinstance(removed, ActualLrpRemoved)
        assert removed.lrp.instance_guid == "instance"
        assert await scene.client.list_actual_lrps(guid) == ()
        with pytest.raises(NotFound):
            await scene.client.retire_actual_lrp(guid, index=0, domain=scene.domain)

    async def test_a_draining_cell_keeps_its_instance_beside_the_new_row(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance("old"))

        await scene.evacuate(guid, scene.instance("old"))

        rows = {row.presence: row for row in await scene.client.list_actual_lrps(guid)}
        assert set(rows) == {Presence.ORDINARY, Presence.EVACUATING}
        assert rows[Presence.EVACUATING].instance_guid == "old"
        assert rows[Presence.ORDINARY].state is ActualLrpState.UNCLAIMED

    async def test_the_rows_of_a_domain_are_listed_as_lrp_by_lrp(self, scene: Scene) -> None:
        first = await scene.desire(scene.lrp(instances=2))
        second = await scene.desire(scene.lrp())
        await scene.start(first, scene.instance("i"), index=1)

        listing = scene.client.list_actual_lrps_of_domain(scene.domain)
        listed = [row async for row in listing]

        singly = [row for guid in (first, second) for row in await scene.client.list_actual_lrps(guid)]
        assert in_order(listed) == in_order(singly)
        assert len(listed) == 3
        assert listing.skipped == 0

    async def test_the_rows_of_other_domains_are_not_listed(self, scene: Scene) -> None:
        other = scene.lrp()
        other.domain = f"{scene.domain}-other"
        guid, elsewhere = await scene.desire(scene.lrp()), await scene.desire(other)

        here = [row async for row in scene.client.list_actual_lrps_of_domain(scene.domain)]
        there = [row async for row in scene.client.list_actual_lrps_of_domain(other.domain)]

        assert [row.process_guid for row in here] == [guid]
        assert [row.process_guid for row in there] == [elsewhere]
        assert [row async for row in scene.client.list_actual_lrps_of_domain("suite-no-such-domain")] == []

    async def test_rows_of_every_presence_are_listed_in_a_domain(self, scene: Scene) -> None:
        """An evacuating instance may be the only one that serves."""
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance("old"))
        await scene.evacuate(guid, scene.instance("old"))

        listed = [row async for row in scene.client.list_actual_lrps_of_domain(scene.domain)]

        assert {row.presence for row in listed} == {Presence.ORDINARY, Presence.EVACUATING}

    async def test_rows_that_a_removed_lrp_left_are_listed_in_its_domain(self, scene: Scene) -> None:
        guid = await scene.desire(scene.lrp())
        await scene.start(guid, scene.instance())
        await scene.client.remove_desired_lrp(guid)

        listed = [row async for row in scene.client.list_actual_lrps_of_domain(scene.domain)]

        assert [(row.process_guid, row.state) for row in listed] == [(guid, ActualLrpState.RUNNING)]

    @pytest.mark.needs_cell
    async def test_a_removed_lrp_is_stopped_later_and_its_rows_tell_when(self, scene: Scene) -> None:
        guid = await scene.desire(for_a_cell(scene.lrp(instances=2)))
        await eventually(runs(scene, guid, 2))
        assert {row.cell_id for row in await scene.client.list_actual_lrps(guid)} <= {
            cell.cell_id for cell in await scene.client.list_cells()
        }

        await scene.client.remove_desired_lrp(guid)

        left = await scene.client.list_actual_lrps(guid)
        assert [row.state for row in left] == [ActualLrpState.RUNNING] * 2  # there is no state for stopping

        async def is_empty() -> bool:
            return not await scene.client.list_actual_lrps(guid)

        await eventually(is_empty)

    @pytest.mark.needs_cell
    async def test_after_the_last_row_is_gone_a_new_definition_starts_at_once(self, scene: Scene) -> None:
        """The way of a migration, without a wait for convergence."""
        guid = await scene.desire(for_a_cell(scene.lrp()))
        await eventually(runs(scene, guid, 1))
        lrp = await scene.client.find_desired_lrp(guid)
        assert lrp is not None
        await scene.client.remove_desired_lrp(guid)

        async def is_empty() -> bool:
            return not await scene.client.list_actual_lrps(guid)

        await eventually(is_empty)
        await scene.client.desire_lrp(lrp, lrp.rootfs, None)

        await eventually(runs(scene, guid, 1))

    @pytest.mark.needs_cell
    async def test_a_retired_instance_is_said_to_be_removed_before_it_is(self, scene: Scene) -> None:
        """Why such an event proves nothing: there are two for one row."""
        guid = await scene.desire(for_a_cell(scene.lrp()))
        await eventually(runs(scene, guid, 1))
        (running,) = await scene.client.list_actual_lrps(guid)
        async with scene.client.subscribe_lrp_instances() as events:
            await scene.client.retire_actual_lrp(guid, index=0, domain=scene.domain)
            is_removed_row = is_row(ActualLrpRemoved, guid)
            premature, final = await read_until(events, is_removed_row, is_removed_row)

        for event in (premature, final):
            assert isinstance(event, ActualLrpRemoved)
            assert event.lrp.instance_guid == running.instance_guid


def in_order(rows: Iterable[ActualLrp]) -> list[ActualLrp]:
    """Sort rows, which a BBS lists in any order."""
    return sorted(rows, key=lambda row: (row.process_guid, row.index, row.presence))


def for_a_cell(lrp: DesiredLRP) -> DesiredLRP:
    """Let a cell take it, and run what that cell can run."""
    lrp.ClearField("PlacementTags")
    lrp.root_fs = os.environ.get("TEST_BBS_CELL_ROOTFS", lrp.root_fs)
    return lrp


def runs(scene: Scene, guid: ProcessGuid, count: int) -> Callable[[], Awaitable[bool]]:
    async def is_running() -> bool:
        rows = await scene.client.list_actual_lrps(guid)
        return [row.state for row in rows] == [ActualLrpState.RUNNING] * count

    return is_running


class TestSimulator2024(BbsInstancesContract, OnSimulator2024):
    pass


class TestSimulator2026(BbsInstancesContract, OnSimulator2026):
    pass


class TestRealBbs(BbsInstancesContract, OnRealBbs):
    pass
