"""Desired and actual LRPs of the simulated BBS, where they do what a client would not expect."""

from collections.abc import Iterator

import pytest

from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPInstanceKey, ActualLRPKey, ActualLRPNetInfo
from protos.bbs.actual_lrp_requests_pb2 import ActualLRPsRequest, StartActualLRPRequest
from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate, ProtoRoutes
from protos.bbs.error_pb2 import Error
from protos.bbs.evacuation_pb2 import EvacuateRunningActualLRPRequest
from tests.simulators.bbs import Bbs, State, Version, actual, convergence, desired, evacuation, serve_bbs
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.events import Event
from tests.simulators.bbs.state import upsert_domain
from tests.simulators.bbs_probe import Clock, is_up, some_lrp, states, until
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates

GUID = "some-guid"
KEY = ActualLRPKey(process_guid=GUID, index=0, domain="some-domain")
MINE = ActualLRPInstanceKey(instance_guid="mine", cell_id="cell-a")
OTHER = ActualLRPInstanceKey(instance_guid="other", cell_id="cell-b")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> State:
    """A BBS without cells, in which one instance waits for a place."""
    state = State(now=clock)
    desired.desire(state, some_lrp())
    heard(state)
    return state


def heard(state: State) -> list[str]:
    """Name the events since the last look."""
    return [event.name for event in emitted(state)]


def emitted(state: State) -> Iterator[Event]:
    while not state.events._queue.empty():
        yield from state.events._queue.get_nowait()


def start_request(instance: ActualLRPInstanceKey) -> StartActualLRPRequest:
    net_info = ActualLRPNetInfo(address="10.0.0.1")
    return StartActualLRPRequest(
        actual_lrp_key=KEY, actual_lrp_instance_key=instance, actual_lrp_net_info=net_info
    )


def run(state: State, instance: ActualLRPInstanceKey = MINE) -> None:
    actual.claim(state, GUID, 0, instance)
    actual.start(state, start_request(instance))
    heard(state)


def ordinary(state: State) -> ActualLRP:
    row = state.row(GUID, 0)
    assert row is not None
    return row


def refusal(error: pytest.ExceptionInfo[BbsError]) -> Error.Type:
    return error.value.kind


def test_an_instance_without_a_cell_gets_a_placement_error(state: State) -> None:
    assert ordinary(state).state == "UNCLAIMED"
    assert ordinary(state).placement_error == "unable to communicate to compatible cells"


def test_any_cell_may_start_what_another_has_claimed_but_not_what_it_runs(state: State) -> None:
    actual.claim(state, GUID, 0, OTHER)
    actual.start(state, start_request(MINE))

    with pytest.raises(BbsError) as error:
        actual.start(state, start_request(OTHER))

    assert refusal(error) is Error.ActualLRPCannotBeStarted
    assert ordinary(state).actual_lrp_instance_key == MINE


def test_a_heartbeat_without_news_changes_nothing(state: State) -> None:
    run(state)
    index = ordinary(state).modification_tag.index

    actual.start(state, start_request(MINE))

    assert (heard(state), ordinary(state).modification_tag.index) == ([], index)


def test_a_start_without_a_row_makes_one(state: State) -> None:
    actual.remove(state, GUID, 0, None)
    heard(state)

    actual.start(state, start_request(MINE))

    assert (heard(state), ordinary(state).state) == (["actual_lrp_instance_created"], "RUNNING")


def test_a_claim_of_another_cells_instance_is_refused(state: State) -> None:
    run(state, OTHER)

    with pytest.raises(BbsError) as error:
        actual.claim(state, GUID, 0, MINE)

    assert refusal(error) is Error.ActualLRPCannotBeClaimed


def test_the_first_crashes_restart_at_once_and_later_ones_after_a_growing_pause(
    state: State, clock: Clock
) -> None:
    sequences = []
    for _ in range(3):
        run(state)
        actual.crash(state, KEY, MINE, "exited")
        sequences.append(heard(state))
    again = ["actual_lrp_crashed", "actual_lrp_instance_created", "actual_lrp_instance_removed"]
    assert [names[:3] for names in sequences[:2]] == [again, again]
    assert sequences[2] == ["actual_lrp_crashed", "actual_lrp_instance_changed"]
    assert (ordinary(state).state, ordinary(state).crash_count) == ("CRASHED", 3)

    clock.advance(29)
    convergence.converge(state)
    assert heard(state) == []

    clock.advance(1)
    convergence.converge(state)
    assert heard(state)[:2] == again[1:]
    assert ordinary(state).state == "UNCLAIMED"


def test_a_crash_after_a_long_run_counts_from_1_again(state: State, clock: Clock) -> None:
    run(state)
    ordinary(state).crash_count = 7
    clock.advance(301)

    actual.crash(state, KEY, MINE, "r" * 2000)

    assert ordinary(state).crash_count == 1
    assert ordinary(state).crash_reason == "r" * 1013 + "(truncated)"


def test_a_crash_of_what_is_no_longer_desired_leaves_its_row(state: State) -> None:
    run(state)
    desired.remove(state, GUID)

    with pytest.raises(BbsError) as error:
        actual.crash(state, KEY, MINE, "exited")

    assert refusal(error) is Error.ResourceNotFound
    assert ordinary(state).state == "UNCLAIMED"


def test_an_update_raises_the_tag_even_when_nothing_changes(state: State) -> None:
    desired.update(state, GUID, DesiredLRPUpdate())

    assert state.desired[GUID].modification_tag.index == 1


def test_an_update_replaces_all_routes_but_only_if_it_has_any(state: State) -> None:
    for routes in ({"a": b"1", "b": b"2"}, {"c": b"3"}):
        desired.update(state, GUID, DesiredLRPUpdate(routes=ProtoRoutes(routes=routes)))
    desired.update(state, GUID, DesiredLRPUpdate(annotation="new"))
    assert dict(state.desired[GUID].routes.routes) == {"c": b"3"}

    desired.update(state, GUID, DesiredLRPUpdate(routes=ProtoRoutes()))
    assert dict(state.desired[GUID].routes.routes) == {}


def test_rows_of_all_presences_are_listed_and_index_0_filters(state: State) -> None:
    run(state)
    convergence.converge(state)  # its cell is unknown

    listed = list(actual.listed(state, ActualLRPsRequest(process_guid=GUID, index=0)))

    assert {row.presence for row in listed} == {ActualLRP.ORDINARY, ActualLRP.SUSPECT}
    assert not list(actual.listed(state, ActualLRPsRequest(process_guid=GUID, index=1)))


def test_a_domain_is_fresh_until_it_expires(state: State, clock: Clock) -> None:
    upsert_domain(state, "short", 120)
    upsert_domain(state, "for-ever", 0)
    clock.advance(119)
    assert state.fresh_domains() == ["short", "for-ever"]

    clock.advance(2)
    assert state.fresh_domains() == ["for-ever"]


def test_a_domain_may_expire_up_to_half_a_second_early(state: State, clock: Clock) -> None:
    """The real one rounds the present time to the nearest second, and a half up."""
    clock.advance(0.75)
    upsert_domain(state, "short", 2)

    clock.advance(1.5)
    assert state.fresh_domains() == ["short"]
    clock.advance(0.25)
    assert state.fresh_domains() == []


@pytest.mark.parametrize(("domains", "left"), [([], ["UNCLAIMED"]), (["some-domain"], [])])
def test_orphans_are_retired_in_fresh_domains_alone(
    state: State, domains: list[str], left: list[str]
) -> None:
    del state.desired[GUID]
    for name in domains:
        upsert_domain(state, name, 120)

    convergence.converge(state)

    assert [row.state for row in state.rows()] == left


@pytest.mark.parametrize(("version", "rows"), [(Version.NEW, 1), (Version.OLD, 2)])
def test_an_evacuated_instance_keeps_running_until_its_migration_does(
    clock: Clock, version: Version, rows: int
) -> None:
    """Unless it is to be recreated, which the older version does not know."""
    state = State(version, now=clock)
    lrp = some_lrp()
    if version is Version.NEW:
        lrp.update_strategy = DesiredLRP.RECREATE
    desired.desire(state, lrp)
    run(state)
    request = EvacuateRunningActualLRPRequest(
        actual_lrp_key=KEY, actual_lrp_instance_key=MINE, actual_lrp_net_info=ActualLRPNetInfo(address="a")
    )

    keeps = evacuation.running(state, request)

    assert (keeps, len(list(state.rows()))) == (rows == 2, rows)
    run(state, OTHER)
    assert [row.presence for row in state.rows()] == [ActualLRP.ORDINARY]
    assert not evacuation.running(state, request)


def some_cell(bbs: Bbs) -> SimulatedCell:
    return SimulatedCell(bbs, CellSettings(start_delay=0, stop_delay=0))


@pytest.mark.usefixtures("servers")
async def test_an_index_with_a_left_over_row_waits_for_convergence(certificates: Certificates) -> None:
    """Remove and desire at once: the old instance shows under the new definition, then there is none."""
    async with serve_bbs(certificates) as bbs, some_cell(bbs) as cell:
        desired.desire(bbs.state, some_lrp(instances=2))
        await until(is_up(bbs, GUID, 2))
        cell.stop_gate.clear()

        desired.remove(bbs.state, GUID)
        desired.desire(bbs.state, some_lrp(instances=3))
        assert states(bbs, GUID)[:2] == ["RUNNING", "RUNNING"]
        cell.stop_gate.set()
        await until(is_up(bbs, GUID, 1))
        assert [row.actual_lrp_key.index for row in bbs.state.rows()] == [2]

        await bbs.converge()
        await until(is_up(bbs, GUID, 3))


@pytest.mark.usefixtures("servers")
async def test_a_lost_stop_keeps_the_old_definition_running(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, some_cell(bbs) as cell:
        desired.desire(bbs.state, some_lrp(rootfs="docker:///library/old#1"))
        await until(is_up(bbs, GUID, 1))
        cell.lost_stops = 1

        desired.remove(bbs.state, GUID)
        desired.desire(bbs.state, some_lrp(rootfs="docker:///library/new#1"))
        await bbs.converge()

        assert states(bbs, GUID) == ["RUNNING"]
        assert cell.running(GUID, 0).rootfs == "docker:///library/old#1"


@pytest.mark.usefixtures("servers")
async def test_retire_tells_of_a_removal_before_there_is_one(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, some_cell(bbs) as cell:
        desired.desire(bbs.state, some_lrp())
        await until(is_up(bbs, GUID, 1))
        cell.refused_stops = 5
        await bbs.state.events.settle()
        told = bbs.state.events.published

        with pytest.raises(BbsError) as error:
            actual.retire(bbs.state, KEY)

        await bbs.state.events.settle()
        assert (refusal(error), bbs.state.events.published) == (Error.UnknownError, told + 1)
        assert states(bbs, GUID) == ["RUNNING"]


@pytest.mark.usefixtures("servers")
async def test_scaling_down_stops_the_surplus(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, some_cell(bbs):
        desired.desire(bbs.state, some_lrp(instances=3))
        await until(is_up(bbs, GUID, 3))

        desired.update(bbs.state, GUID, DesiredLRPUpdate(instances=1))

        await until(is_up(bbs, GUID, 1))


@pytest.mark.usefixtures("servers")
async def test_a_lost_cell_makes_suspects_that_its_return_restores(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, some_cell(bbs) as cell:
        desired.desire(bbs.state, some_lrp())
        await until(is_up(bbs, GUID, 1))

        cell.vanish()
        await bbs.converge()
        assert {(row.presence, row.state) for row in bbs.state.rows()} == {
            (ActualLRP.SUSPECT, "RUNNING"),
            (ActualLRP.ORDINARY, "UNCLAIMED"),
        }

        cell.come_back()
        await bbs.converge()
        assert [(row.presence, row.state) for row in bbs.state.rows()] == [(ActualLRP.ORDINARY, "RUNNING")]


@pytest.mark.usefixtures("servers")
async def test_a_drained_cell_hands_over_without_a_gap(certificates: Certificates) -> None:
    async with serve_bbs(certificates) as bbs, some_cell(bbs) as old:
        desired.desire(bbs.state, some_lrp(instances=2))
        await until(is_up(bbs, GUID, 2))
        async with SimulatedCell(bbs, CellSettings(cell_id="cell-2", start_delay=0)) as new:
            await old.drain()

            await until(is_up(bbs, GUID, 2))
            assert (len(old.instances), len(new.instances)) == (0, 2)
