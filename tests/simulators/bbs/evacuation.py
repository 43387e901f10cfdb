"""Evacuation: what a cell that drains says of its instances.

Source: bbs controllers/evacuation_controller.go, db/sqldb/evacuation_db.go.
"""

from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPInstanceKey, ActualLRPKey
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from protos.bbs.evacuation_pb2 import EvacuateRunningActualLRPRequest
from tests.simulators.bbs import actual, events
from tests.simulators.bbs.errors import error
from tests.simulators.bbs.state import State, copy_of, new_tag


def claimed(state: State, key: ActualLRPKey, instance: ActualLRPInstanceKey) -> None:
    """Give back an instance that the cell had not started."""
    _drop_evacuating(state, key, instance)
    row = _ordinary(state, key)
    if row.state == actual.UNCLAIMED or row.actual_lrp_instance_key != instance:
        raise error(Error.ActualLRPCannotBeUnclaimed)
    state.events.emit(actual.unclaim(state, row))
    actual.auction(state, [key])


def crashed(state: State, key: ActualLRPKey, instance: ActualLRPInstanceKey, reason: str) -> None:
    """Count a crash on the draining cell."""
    _drop_evacuating(state, key, instance)
    actual.crash(state, key, instance, reason)


def stopped(state: State, key: ActualLRPKey, instance: ActualLRPInstanceKey) -> None:
    """Forget an instance that ended on the draining cell."""
    _drop_evacuating(state, key, instance)
    row = _ordinary(state, key)
    if row.actual_lrp_instance_key != instance:
        raise error(Error.ActualLRPCannotBeRemoved)
    actual.drop(state, row)


def running(state: State, request: EvacuateRunningActualLRPRequest) -> bool:
    """Start a migration of a running instance; True while the cell has to keep the old one."""
    key, instance = request.actual_lrp_key, request.actual_lrp_instance_key
    row = state.row(key.process_guid, key.index)
    if row is None:
        _drop_evacuating(state, key, instance)
        return False
    same = row.actual_lrp_instance_key == instance
    if row.state == actual.RUNNING and same:
        return _evacuate(state, row, request)
    waits = row.state == actual.UNCLAIMED and not row.placement_error
    if waits or (row.state == actual.CLAIMED and not same):
        if state.row(key.process_guid, key.index, ActualLRP.EVACUATING) is None:
            evacuating = _evacuating_row(state, request)
            state.events.emit([events.instance_created(evacuating)])
        return True
    _drop_evacuating(state, key, instance)
    return False


def _evacuate(state: State, row: ActualLRP, request: EvacuateRunningActualLRPRequest) -> bool:
    lrp = state.desired.get(row.actual_lrp_key.process_guid)
    if lrp is not None and lrp.update_strategy == DesiredLRP.RECREATE:
        return _recreate(state, row, lrp)
    before = copy_of(row)
    evacuating = _evacuating_row(state, request)
    actual.unclaim(state, row)
    state.events.emit([events.instance_changed(before, evacuating), events.instance_created(row)])
    actual.auction(state, [row.actual_lrp_key])
    return True


def _recreate(state: State, row: ActualLRP, lrp: DesiredLRP) -> bool:
    up = [
        other
        for other in state.actual[lrp.process_guid].values()
        if other.presence == ActualLRP.ORDINARY and other.state == actual.RUNNING
    ]
    if len(up) < lrp.instances:
        return True
    state.events.emit(actual.unclaim(state, row))
    actual.auction(state, [row.actual_lrp_key])
    return False


def _evacuating_row(state: State, request: EvacuateRunningActualLRPRequest) -> ActualLRP:
    row = ActualLRP(
        actual_lrp_key=request.actual_lrp_key,
        actual_lrp_instance_key=request.actual_lrp_instance_key,
        actual_lrp_net_info=request.actual_lrp_net_info,
        actual_lrp_internal_routes=request.actual_lrp_internal_routes,
        metric_tags=request.metric_tags,
        state=actual.RUNNING,
        since=state.now(),
        modification_tag=new_tag(),
        presence=ActualLRP.EVACUATING,
        routable=request.Routable if request.HasField("Routable") else True,
        availability_zone=request.availability_zone,
    )
    state.put_row(row)
    return row


def remove(state: State, key: ActualLRPKey, instance: ActualLRPInstanceKey) -> None:
    """Delete an evacuating row."""
    row = state.row(key.process_guid, key.index, ActualLRP.EVACUATING)
    if row is None:
        raise error(Error.ResourceNotFound)
    if row.actual_lrp_instance_key != instance:
        raise error(Error.ActualLRPCannotBeRemoved)
    actual.drop(state, row)


def _drop_evacuating(state: State, key: ActualLRPKey, instance: ActualLRPInstanceKey) -> None:
    row = state.row(key.process_guid, key.index, ActualLRP.EVACUATING)
    if row is not None and row.actual_lrp_instance_key == instance:
        actual.drop(state, row)


def _ordinary(state: State, key: ActualLRPKey) -> ActualLRP:
    row = state.row(key.process_guid, key.index)
    if row is None:
        raise error(Error.ResourceNotFound)
    return row
