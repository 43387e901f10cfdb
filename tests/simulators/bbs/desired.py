"""Desired LRPs: desire, read, update and remove, and what that does to instances.

Source: bbs handlers/desired_lrp_handlers.go, db/sqldb/desired_lrp_db.go, models/desired_lrp.go.
"""

from collections.abc import Iterable, Iterator, Mapping

from protos.bbs.actual_lrp_pb2 import ActualLRPKey
from protos.bbs.desired_lrp_pb2 import (
    DesiredLRP,
    DesiredLRPKey,
    DesiredLRPResource,
    DesiredLRPSchedulingInfo,
    DesiredLRPUpdate,
    ProtoRoutes,
)
from protos.bbs.desired_lrp_requests_pb2 import DesiredLRPsRequest
from protos.bbs.error_pb2 import Error
from protos.bbs.events_pb2 import DesiredLRPChangedEvent, DesiredLRPCreatedEvent, DesiredLRPRemovedEvent
from protos.bbs.volume_mount_pb2 import VolumePlacement
from tests.simulators.bbs import actual, events
from tests.simulators.bbs.errors import BbsError, Panic, error
from tests.simulators.bbs.events import event_from_message
from tests.simulators.bbs.routes_json import normalise
from tests.simulators.bbs.state import State, check_columns, new_tag

INTERNAL_ROUTER = "internal-router"
SOURCE_ID = "source_id"


def desire(state: State, wanted: DesiredLRP, trace_id: str = "") -> None:
    """Store a new desired LRP and place its instances.

    An index with a row left over from an earlier life of the GUID is left out, without an error.
    """
    lrp = _stored(wanted)
    check_columns(lrp.process_guid, lrp.domain, lrp.log_guid, rootfs=lrp.root_fs)
    if lrp.process_guid in state.desired:
        raise error(Error.ResourceExists)
    state.desired[lrp.process_guid] = lrp
    state.events.emit([event_from_message(DesiredLRPCreatedEvent(desired_lrp=lrp, trace_id=trace_id))])
    _start_instances(state, lrp, range(lrp.instances), trace_id)


def _stored(wanted: DesiredLRP) -> DesiredLRP:
    lrp = DesiredLRP()
    lrp.CopyFrom(wanted)
    lrp.modification_tag.CopyFrom(new_tag())
    lrp.ClearField("deprecated_start_timeout_s")
    lrp.routes.CopyFrom(_stored_routes(wanted.routes.routes))
    lrp.routes.SetInParent()
    ports = list(dict.fromkeys(lrp.ports))
    del lrp.ports[:]
    lrp.ports.extend(ports)
    return lrp


def _stored_routes(routes: Mapping[str, bytes]) -> ProtoRoutes:
    try:
        return ProtoRoutes(routes={name: normalise(value) for name, value in routes.items()})
    except ValueError as problem:
        raise error(Error.InvalidRequest) from problem


def _start_instances(state: State, lrp: DesiredLRP, indices: Iterable[int], trace_id: str) -> None:
    created = []
    for index in indices:
        key = ActualLRPKey(process_guid=lrp.process_guid, index=index, domain=lrp.domain)
        try:
            row = actual.create_unclaimed(state, key)
        except BbsError:
            continue  # only logged upstream
        created.append(row.actual_lrp_key)
        state.events.emit([events.instance_created(row, trace_id)])
    actual.auction(state, created)


def found(state: State, process_guid: str) -> DesiredLRP:
    """Find a desired LRP as it is stored."""
    lrp = state.desired.get(process_guid)
    if lrp is None:
        raise error(Error.ResourceNotFound)
    return lrp


def read(state: State, process_guid: str) -> DesiredLRP:
    """Find a desired LRP as a get answers it."""
    return _shown(found(state, process_guid))


def listed(state: State, request: DesiredLRPsRequest) -> Iterator[DesiredLRP]:
    """List full definitions."""
    return (
        _shown(lrp)
        for lrp in matching(state, request.domain, request.process_guids)
        if not request.app_guids or lrp.process_guid.startswith(tuple(request.app_guids))
    )


def matching(state: State, domain: str, process_guids: Iterable[str]) -> Iterator[DesiredLRP]:
    """Walk what is stored, by domain and GUIDs; an empty filter lets all through."""
    wanted = frozenset(process_guids)
    for lrp in list(state.desired.values()):
        if domain in {"", lrp.domain} and (not wanted or lrp.process_guid in wanted):
            yield lrp


def _shown(lrp: DesiredLRP) -> DesiredLRP:
    """Fill in source_id or metrics_guid, whichever is missing; events never show that."""
    shown = DesiredLRP()
    shown.CopyFrom(lrp)
    if lrp.metrics_guid and SOURCE_ID not in lrp.metric_tags:
        shown.metric_tags[SOURCE_ID].static = lrp.metrics_guid
    elif not lrp.metrics_guid and SOURCE_ID in lrp.metric_tags:
        shown.metrics_guid = lrp.metric_tags[SOURCE_ID].static
    return shown


def scheduling_info(lrp: DesiredLRP) -> DesiredLRPSchedulingInfo:
    """Give the light form of a desired LRP."""
    drivers = [mount.driver for mount in lrp.volume_mounts]
    return DesiredLRPSchedulingInfo(
        desired_lrp_key=DesiredLRPKey(
            process_guid=lrp.process_guid, domain=lrp.domain, log_guid=lrp.log_guid
        ),
        annotation=lrp.annotation,
        instances=lrp.instances,
        desired_lrp_resource=DesiredLRPResource(
            memory_mb=lrp.memory_mb,
            disk_mb=lrp.disk_mb,
            root_fs=lrp.root_fs,
            max_pids=lrp.max_pids,
        ),
        routes=lrp.routes,
        modification_tag=lrp.modification_tag,
        volume_placement=VolumePlacement(driver_names=drivers),
        PlacementTags=lrp.PlacementTags,
    )


def routing_info(lrp: DesiredLRP) -> DesiredLRP:
    """Give only what a router needs."""
    return DesiredLRP(
        process_guid=lrp.process_guid,
        domain=lrp.domain,
        log_guid=lrp.log_guid,
        instances=lrp.instances,
        routes=lrp.routes,
        modification_tag=lrp.modification_tag,
        metric_tags=lrp.metric_tags,
    )


def update(state: State, process_guid: str, change: DesiredLRPUpdate | None, trace_id: str = "") -> None:
    """Change what can change in place; each accepted update raises the tag's index."""
    lrp = found(state, process_guid)
    if change is None:
        raise Panic("an update without its update message")
    before = DesiredLRP()
    before.CopyFrom(lrp)
    routes = _stored_routes(change.routes.routes) if change.HasField("routes") else None
    for name in ("instances", "annotation", "image_username", "image_password"):
        if change.HasField(name):
            setattr(lrp, name, getattr(change, name))
    if routes is not None:
        lrp.routes.CopyFrom(routes)
    if change.metric_tags:
        lrp.metric_tags.clear()
        lrp.MergeFrom(DesiredLRP(metric_tags=change.metric_tags))
    lrp.modification_tag.index += 1
    _follow(state, before, lrp, trace_id)
    if routes is not None or change.metric_tags:
        _push(state, lrp)
    message = DesiredLRPChangedEvent(before=before, after=lrp, trace_id=trace_id)
    state.events.emit([event_from_message(message)])


def _follow(state: State, before: DesiredLRP, lrp: DesiredLRP, trace_id: str) -> None:
    _start_instances(state, lrp, range(before.instances, lrp.instances), trace_id)
    for row in list(state.actual.get(lrp.process_guid, {}).values()):
        if lrp.instances <= row.actual_lrp_key.index < before.instances:
            actual.stop(state, row, trace_id)


def _push(state: State, lrp: DesiredLRP) -> None:
    cells = state.registered_cells()
    for row in list(state.actual.get(lrp.process_guid, {}).values()):
        instance = row.actual_lrp_instance_key
        if row.state == actual.RUNNING and instance.cell_id in cells:
            cells[instance.cell_id].update_lrp(row.actual_lrp_key, instance.instance_guid)


def remove(state: State, process_guid: str, trace_id: str = "") -> None:
    """Forget a desired LRP and ask cells to stop its instances, whose rows stay until they have."""
    lrp = found(state, process_guid)
    del state.desired[process_guid]
    state.events.emit([event_from_message(DesiredLRPRemovedEvent(desired_lrp=lrp, trace_id=trace_id))])
    for row in list(state.actual.get(process_guid, {}).values()):
        actual.stop(state, row, trace_id)
