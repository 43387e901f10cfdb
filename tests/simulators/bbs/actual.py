"""Actual LRPs: the state machine of an instance's rows, and their events.

Evacuation is the neighbour's (`evacuation`), as is what convergence adds.
Source: bbs db/sqldb/actual_lrp_db.go, controllers/actual_lrp_lifecycle_controller.go,
events/calculator/actual_lrp_event_calculator.go, models/actual_lrp.go.
"""

from collections.abc import Iterable

from protos.bbs.actual_lrp_pb2 import (
    ActualLRP,
    ActualLRPInstanceKey,
    ActualLRPInternalRoute,
    ActualLRPKey,
    ActualLRPNetInfo,
)
from protos.bbs.actual_lrp_requests_pb2 import ActualLRPsRequest, StartActualLRPRequest
from protos.bbs.error_pb2 import Error
from protos.bbs.evacuation_pb2 import EvacuateRunningActualLRPRequest
from tests.simulators.bbs import events
from tests.simulators.bbs.errors import BbsError, error
from tests.simulators.bbs.events import Event
from tests.simulators.bbs.placement import NoPlacement, PlacementRequest, choose_cell
from tests.simulators.bbs.state import SECOND, RepError, SlowStop, State, copy_of, new_tag, truncated

UNCLAIMED, CLAIMED, RUNNING, CRASHED = "UNCLAIMED", "CLAIMED", "RUNNING", "CRASHED"

IMMEDIATE_RESTARTS = 3
LONG_RUN = 5 * 60 * SECOND
STOP_ATTEMPTS = 5

Started = StartActualLRPRequest | EvacuateRunningActualLRPRequest


def listed(state: State, request: ActualLRPsRequest) -> Iterable[ActualLRP]:
    """List the rows that match all given filters, whatever their presence."""
    rows = list(state.actual.get(request.process_guid, {}).values()) if request.process_guid else state.rows()
    return (
        row
        for row in rows
        if request.domain in {"", row.actual_lrp_key.domain}
        and request.cell_id in {"", row.actual_lrp_instance_key.cell_id}
        and (not request.HasField("index") or request.index == row.actual_lrp_key.index)
    )


def create_unclaimed(state: State, key: ActualLRPKey) -> ActualLRP:
    """Add a row for an index that has none of its own.

    Raises:
        BbsError: ResourceExists.
    """
    if state.row(key.process_guid, key.index) is not None:
        raise error(Error.ResourceExists)
    row = ActualLRP(
        actual_lrp_key=key,
        actual_lrp_instance_key=ActualLRPInstanceKey(),
        actual_lrp_net_info=ActualLRPNetInfo(),
        state=UNCLAIMED,
        since=state.now(),
        modification_tag=new_tag(),
        routable=False,
    )
    state.put_row(row)
    return row


def auction(state: State, keys: Iterable[ActualLRPKey]) -> None:
    """Ask for places; an instance without one gets its placement error."""
    for key in keys:
        lrp = state.desired.get(key.process_guid)
        if lrp is None:
            continue
        drivers = [mount.driver for mount in lrp.volume_mounts]
        wanted = PlacementRequest(
            lrp.root_fs, lrp.memory_mb, lrp.disk_mb, lrp.PlacementTags, drivers, lrp.process_guid
        )
        try:
            cell = choose_cell(state, wanted)
        except NoPlacement as problem:
            fail(state, key, str(problem))
        else:
            cell.start_lrp(key)


def is_suspect(state: State, key: ActualLRPKey, instance: ActualLRPInstanceKey) -> bool:
    """Tell whether an instance is one of a cell that seemed lost."""
    suspect = state.row(key.process_guid, key.index, ActualLRP.SUSPECT)
    return suspect is not None and suspect.actual_lrp_instance_key == instance


def claim(state: State, process_guid: str, index: int, instance: ActualLRPInstanceKey) -> None:
    """Let a cell take an instance."""
    if is_suspect(state, ActualLRPKey(process_guid=process_guid, index=index), instance):
        return
    row = _ordinary(state, process_guid, index)
    same = row.actual_lrp_instance_key == instance
    if row.state == CLAIMED and same:
        return
    if row.state != UNCLAIMED and not (row.state == RUNNING and same):
        raise error(Error.ActualLRPCannotBeClaimed)
    before = copy_of(row)
    row.state = CLAIMED
    row.actual_lrp_instance_key.CopyFrom(instance)
    row.actual_lrp_net_info.Clear()
    row.placement_error = ""
    row.routable = False
    _touch(state, row)
    state.events.emit([events.instance_changed(before, row)])


def start(state: State, request: Started, *, keeps_extras: bool = True) -> None:
    """Let a cell say that an instance runs; again and again, as a heartbeat.

    Args:
        state: The BBS.
        request: What runs where.
        keeps_extras: Whether internal routes and metric tags are kept; the deprecated route drops them.
    """
    key, instance = request.actual_lrp_key, request.actual_lrp_instance_key
    if is_suspect(state, key, instance):
        return
    row = state.row(key.process_guid, key.index)
    before = None if row is None else copy_of(row)
    if row is None:
        row = ActualLRP(actual_lrp_key=key, modification_tag=new_tag(), since=state.now())
        state.put_row(row)
    else:
        _check_start(row, request)
    _fill(row, request, keeps_extras=keeps_extras)
    if before is None:
        changes = [events.instance_created(row)]
    elif row == before:
        changes = []
    else:
        row.modification_tag.index += 1
        if before.state != RUNNING:
            row.since = state.now()
        changes = [events.instance_changed(before, row)]
    for presence in (ActualLRP.EVACUATING, ActualLRP.SUSPECT):
        other = state.row(key.process_guid, key.index, presence)
        if other is not None:
            state.drop_row(other)
            changes.append(events.instance_removed(other))
    state.events.emit(changes)


def _check_start(row: ActualLRP, request: Started) -> None:
    same = row.actual_lrp_instance_key == request.actual_lrp_instance_key
    allowed = row.state in {UNCLAIMED, CLAIMED} or (row.state == RUNNING and same)
    if not allowed or row.actual_lrp_key != request.actual_lrp_key:
        raise error(Error.ActualLRPCannotBeStarted)


def _fill(row: ActualLRP, request: Started, *, keeps_extras: bool) -> None:
    row.state = RUNNING
    row.placement_error = ""
    row.actual_lrp_instance_key.CopyFrom(request.actual_lrp_instance_key)
    row.actual_lrp_net_info.CopyFrom(request.actual_lrp_net_info)
    row.routable = request.Routable if request.HasField("Routable") else True
    row.availability_zone = request.availability_zone
    if keeps_extras:
        del row.actual_lrp_internal_routes[:]
        row.actual_lrp_internal_routes.extend(
            ActualLRPInternalRoute(hostname=route.hostname) for route in request.actual_lrp_internal_routes
        )
        row.metric_tags.clear()
        row.metric_tags.update(request.metric_tags)


def crash(state: State, key: ActualLRPKey, instance: ActualLRPInstanceKey, reason: str) -> None:
    """Count a crash; restart at once, later or never."""
    if is_suspect(state, key, instance):
        suspect = state.row(key.process_guid, key.index, ActualLRP.SUSPECT)
        if suspect is not None:
            drop(state, suspect)
        return
    row = _ordinary(state, key.process_guid, key.index)
    if row.state not in {CLAIMED, RUNNING} or row.actual_lrp_instance_key != instance:
        raise error(Error.ActualLRPCannotBeCrashed)
    before = copy_of(row)
    ran_long = row.state == RUNNING and state.now() - row.since > LONG_RUN
    row.crash_count = 1 if ran_long else row.crash_count + 1
    row.crash_reason = truncated(reason)
    restarts = row.crash_count < IMMEDIATE_RESTARTS
    _release(state, row, UNCLAIMED if restarts else CRASHED)
    crashed = events.instance_crashed(before, row, reason)
    state.events.emit([crashed, *_changes(before, row)])
    if restarts:
        if key.process_guid not in state.desired:
            raise error(Error.ResourceNotFound)
        auction(state, [key])


def fail(state: State, key: ActualLRPKey, reason: str) -> None:
    """Note that an instance found no place."""
    row = _ordinary(state, key.process_guid, key.index)
    if row.state != UNCLAIMED:
        raise error(Error.ActualLRPCannotBeFailed)
    before = copy_of(row)
    row.placement_error = truncated(reason)
    _touch(state, row)
    state.events.emit([events.instance_changed(before, row)])


def remove(state: State, process_guid: str, index: int, instance: ActualLRPInstanceKey | None) -> None:
    """Delete the ordinary row; with an instance key only if it is that instance."""
    row = _ordinary(state, process_guid, index)
    if instance is not None and row.actual_lrp_instance_key != instance:
        raise error(Error.ResourceNotFound)
    drop(state, row)


def retire(state: State, key: ActualLRPKey, trace_id: str = "") -> None:
    """Restart one index. Its removed event is out before the row is gone, even if the stop failed."""
    row = _ordinary(state, key.process_guid, key.index)
    cell = state.registered_cells().get(row.actual_lrp_instance_key.cell_id)
    if row.state in {UNCLAIMED, CRASHED} or cell is None:
        drop(state, row, trace_id)
        return
    state.events.emit([events.instance_removed(row, trace_id)])
    problem, instance_guid = "", row.actual_lrp_instance_key.instance_guid
    for _ in range(STOP_ATTEMPTS):
        try:
            answered = cell.stop_lrp(row.actual_lrp_key, instance_guid)
        except RepError as failure:
            problem = str(failure)
            continue
        if answered is not None:
            state.slow_stops.append(SlowStop(cell, row.actual_lrp_key, instance_guid, answered))
        return
    raise BbsError(Error.UnknownError, problem)


def stop(state: State, row: ActualLRP, trace_id: str = "") -> None:
    """End an instance that is no longer desired; a row with a container stays until that has stopped."""
    if row.presence == ActualLRP.EVACUATING:
        return
    if row.state in {UNCLAIMED, CRASHED}:
        drop(state, row, trace_id)
        return
    cell = state.registered_cells().get(row.actual_lrp_instance_key.cell_id)
    if cell is not None:
        try:
            cell.stop_lrp(row.actual_lrp_key, row.actual_lrp_instance_key.instance_guid)
        except RepError:
            return  # only logged upstream, and never tried again


def unclaim(state: State, row: ActualLRP) -> list[Event]:
    """Take an instance from its cell, so that it can be placed again."""
    before = copy_of(row)
    _release(state, row, UNCLAIMED)
    return _changes(before, row)


def drop(state: State, row: ActualLRP, trace_id: str = "") -> None:
    """Delete a row and tell."""
    state.drop_row(row)
    state.events.emit([events.instance_removed(row, trace_id)])


def _ordinary(state: State, process_guid: str, index: int) -> ActualLRP:
    row = state.row(process_guid, index)
    if row is None:
        raise error(Error.ResourceNotFound)
    return row


def _release(state: State, row: ActualLRP, new_state: str) -> None:
    row.state = new_state
    row.actual_lrp_instance_key.Clear()
    row.actual_lrp_net_info.Clear()
    row.routable = False
    row.availability_zone = ""
    del row.actual_lrp_internal_routes[:]
    row.metric_tags.clear()
    _touch(state, row)


def _touch(state: State, row: ActualLRP) -> None:
    row.since = state.now()
    row.modification_tag.index += 1


def _changes(before: ActualLRP, after: ActualLRP) -> list[Event]:
    """Tell of a change as upstream's calculator does: to UNCLAIMED looks like a new row and an old one gone."""
    if after.state == UNCLAIMED and before.state != UNCLAIMED:
        return [events.instance_created(after), events.instance_removed(before)]
    return [events.instance_changed(before, after)]
