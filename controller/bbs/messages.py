"""Converts protobuf messages of the BBS to values and back, and rewrites a desired LRP's rootfs.

A desired LRP keeps the received message as bytes. What is sent back is that message with another rootfs and
other image credentials, so that fields that this program does not know survive.

Source: cloudfoundry/bbs models/{desired_lrp,actual_lrp,task,actions,cells}.proto.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.bbs.text import is_text, text_of, texts_of
from protos.bbs import actions_pb2 as actions
from protos.bbs import actual_lrp_pb2 as actual
from protos.bbs import cells_pb2 as cells
from protos.bbs import desired_lrp_pb2 as desired
from protos.bbs import desired_lrp_requests_pb2 as requests
from protos.bbs import modification_tag_pb2 as tags
from protos.bbs import task_pb2 as tasks
from protos.bbs.environment_variables_pb2 import EnvironmentVariable
from protos.bbs.metric_tags_pb2 import MetricTagValue
from reconcile.bridges import BRIDGE_TAG
from reconcile.errors import Invalid
from reconcile.lrps import (
    Action,
    ActualLrp,
    ActualLrpState,
    AppGuid,
    Cell,
    Credentials,
    DesiredLrp,
    ModificationTag,
    OtherAction,
    Presence,
    ProcessGuid,
    Pull,
    RunAction,
    SchedulingInfo,
    Secret,
    Task,
    TaskGuid,
    TaskState,
    WrapperAction,
)
from reconcile.references import Rootfs

APP_GUID_TAG = "app_id"
_NANOSECONDS = 1_000_000_000

NO_LOGIN = Credentials("", Secret(""))
"""In an update: takes the login of an LRP away, whose two parts must both be given."""

_TASK_STATES: Mapping[int, TaskState] = {
    tasks.Task.Pending: TaskState.PENDING,
    tasks.Task.Running: TaskState.RUNNING,
    tasks.Task.Completed: TaskState.COMPLETED,
    tasks.Task.Resolving: TaskState.RESOLVING,
}
_INSTANCE_STATES: Mapping[str, ActualLrpState] = {state.value: state for state in ActualLrpState}
_PRESENCES: Mapping[int, Presence] = {
    actual.ActualLRP.ORDINARY: Presence.ORDINARY,
    actual.ActualLRP.EVACUATING: Presence.EVACUATING,
    actual.ActualLRP.SUSPECT: Presence.SUSPECT,
}


def task_from_message(message: tasks.Task) -> Task:
    """Convert a task; an unknown state becomes INVALID."""
    definition = message.task_definition
    return Task(
        task_guid=TaskGuid(text_of(message, "task_guid")),
        domain=text_of(message, "domain"),
        state=_TASK_STATES.get(message.state, TaskState.INVALID),
        created_at=message.created_at,
        rootfs=Rootfs(text_of(definition, "root_fs")),
        log_guid=text_of(definition, "log_guid"),
        action=_action_from_message(definition.action) if definition.HasField("action") else None,
        failed=message.failed,
        failure_reason=text_of(message, "failure_reason"),
        metric_tags=_static_tags(definition.metric_tags),
        credentials=_credentials_of(definition),
        cell_id=text_of(message, "cell_id"),
        rejection_reason=text_of(message, "rejection_reason"),
        placement_tags=frozenset(texts_of(definition.placement_tags)),
    )


def desired_lrp_from_message(message: desired.DesiredLRP) -> DesiredLrp:
    """Read a desired LRP and keep all of it, in an order that makes equal definitions equal bytes."""
    metric_tags = _static_tags(message.metric_tags)
    return DesiredLrp(
        process_guid=ProcessGuid(text_of(message, "process_guid")),
        domain=text_of(message, "domain"),
        app_guid=AppGuid(text_of(message, "log_guid") or metric_tags.get(APP_GUID_TAG, "")),
        rootfs=Rootfs(text_of(message, "root_fs")),
        instances=message.instances,
        tag=_tag_from_message(message.modification_tag),
        definition=message.SerializeToString(deterministic=True),
        action=_action_from_message(message.action) if message.HasField("action") else None,
        metric_tags=metric_tags,
        credentials=_credentials_of(message),
        routes=routes_of(message),
        placement_tags=frozenset(texts_of(message.PlacementTags)),
        annotation=text_of(message, "annotation"),
    )


def scheduling_info_from_message(message: desired.DesiredLRPSchedulingInfo) -> SchedulingInfo:
    """Convert a scheduling info; it has no metric tags that could name the app where `log_guid` is empty."""
    key = message.desired_lrp_key
    return SchedulingInfo(
        process_guid=ProcessGuid(text_of(key, "process_guid")),
        domain=text_of(key, "domain"),
        app_guid=AppGuid(text_of(key, "log_guid")),
        rootfs=Rootfs(text_of(message.desired_lrp_resource, "root_fs")),
        instances=message.instances,
        tag=_tag_from_message(message.modification_tag),
        placement_tags=frozenset(texts_of(message.PlacementTags)),
    )


def desired_lrp_from_record(record: bytes) -> DesiredLrp:
    """Convert the record of a desired LRP in a listing."""
    return desired_lrp_from_message(desired.DesiredLRP.FromString(record))


def scheduling_info_from_record(record: bytes) -> SchedulingInfo:
    """Convert the record of a scheduling info in a listing."""
    return scheduling_info_from_message(desired.DesiredLRPSchedulingInfo.FromString(record))


def docker_scheduling_info_from_record(record: bytes) -> SchedulingInfo | None:
    """Convert the record of a scheduling info in a listing; None unless its rootfs is a Docker image."""
    if b"docker:" not in record:  # skips most LRPs of a large platform without decoding them
        return None
    info = scheduling_info_from_record(record)
    return info if info.rootfs.is_docker else None


def actual_lrp_from_record(record: bytes) -> ActualLrp:
    """Convert the record of an actual LRP in a listing."""
    return actual_lrp_from_message(actual.ActualLRP.FromString(record))


def actual_lrp_from_message(message: actual.ActualLRP) -> ActualLrp:
    """Convert an actual LRP.

    Raises:
        Invalid: Its state or presence is unknown; a guess could hurt an app.
    """
    return instance_from_message(message.actual_lrp_key, message.actual_lrp_instance_key, message)


def instance_from_message(
    key: actual.ActualLRPKey,
    instance_key: actual.ActualLRPInstanceKey,
    message: actual.ActualLRP | actual.ActualLRPInfo,
) -> ActualLrp:
    """Convert an actual LRP, or one side of its change event, which has its keys outside.

    Raises:
        Invalid: As `actual_lrp_from_message`.
    """
    state = text_of(message, "state")
    if state not in _INSTANCE_STATES or message.presence not in _PRESENCES:
        raise Invalid("bbs", "unknown-state", f"an actual LRP is {state[:64]!r}, presence {message.presence}")
    routable = "routable" if isinstance(message, actual.ActualLRP) else "Routable"
    return ActualLrp(
        process_guid=ProcessGuid(text_of(key, "process_guid")),
        index=key.index,
        domain=text_of(key, "domain"),
        state=_INSTANCE_STATES[state],
        presence=_PRESENCES[message.presence],
        instance_guid=text_of(instance_key, "instance_guid"),
        cell_id=text_of(instance_key, "cell_id"),
        tag=_tag_from_message(message.modification_tag),
        routable=getattr(message, routable) if message.HasField(routable) else True,
        crash_count=message.crash_count,
        placement_error=text_of(message, "placement_error"),
        crash_reason=text_of(message, "crash_reason"),
        since=message.since / _NANOSECONDS,
    )


def cell_from_message(message: cells.CellPresence) -> Cell:
    """Convert a cell."""
    return Cell(
        cell_id=text_of(message, "cell_id"),
        zone=text_of(message, "zone"),
        rootfs_schemes=tuple(text_of(one, "name") for one in message.rootfs_providers if not one.properties),
        placement_tags=frozenset(texts_of(message.placement_tags)),
        optional_placement_tags=frozenset(texts_of(message.optional_placement_tags)),
    )


def original_definition(definition: bytes) -> requests.DesireLRPRequest:
    """Make the request that desires a received LRP unchanged."""
    return requests.DesireLRPRequest(desired_lrp=desired.DesiredLRP.FromString(definition))


def definition_with_image(
    definition: bytes, *, rootfs: Rootfs, credentials: Credentials | None
) -> requests.DesireLRPRequest:
    """Make the request that desires a received LRP with another rootfs and other image credentials.

    User name and password are both set or both empty, as the BBS demands.
    """
    request = original_definition(definition)
    request.desired_lrp.root_fs = rootfs.uri
    username, password = credentials_fields(credentials)
    request.desired_lrp.image_username, request.desired_lrp.image_password = username, password
    return request


def routes_of(message: desired.DesiredLRP) -> Mapping[str, bytes]:
    """Read the routes of a desired LRP, route key to JSON text."""
    routes = message.routes.routes
    return {name: bytes(routes[name]) for name in routes if is_text(name)}


def set_what_owners_change(
    request: requests.DesireLRPRequest, *, instances: int, routes: Mapping[str, bytes]
) -> None:
    """Set the number of instances and the routes of a definition, if they differ from what was received."""
    message = request.desired_lrp
    message.instances = instances
    if routes_of(message) != routes:
        message.routes.routes.clear()
        for key, value in routes.items():
            message.routes.routes[key] = value


def credentials_fields(credentials: Credentials | None) -> tuple[str, str]:
    """Write a login as `image_username` and `image_password`."""
    return ("", "") if credentials is None else (credentials.username, credentials.password.value)


def another_definition(
    definition: bytes, process_guid: ProcessGuid, *, domain: str, pull: Pull, instances: int
) -> requests.DesireLRPRequest:
    """Make the request that desires a bridge like a received LRP, with a metric tag that tells them apart.

    Source: cloudfoundry/bbs models/metric_tags.go: each tag has a static or a dynamic value, and one of them
        must be the source ID of the LRP, which it has where it has any.
    """
    request = definition_with_image(definition, rootfs=pull.rootfs, credentials=pull.credentials)
    request.desired_lrp.process_guid = process_guid
    request.desired_lrp.domain = domain
    request.desired_lrp.instances = instances
    if request.desired_lrp.metric_tags:
        request.desired_lrp.metric_tags[BRIDGE_TAG].static = "true"
    return request


@dataclass(frozen=True, slots=True)
class LrpUpdate:
    """What to update of a desired LRP in place; None leaves a part as it is.

    Attributes:
        routes: Route key to JSON text; it replaces the whole map.
        credentials: A BBS of 2024 ignores them without an error; only reading the LRP shows it.
    """

    instances: int | None = None
    routes: Mapping[str, bytes] | None = field(default=None, repr=False)
    annotation: str | None = None
    credentials: Credentials | None = None


def message_from_update(process_guid: ProcessGuid, *, update: LrpUpdate) -> requests.UpdateDesiredLRPRequest:
    """Make the request of an update; it has an `update` even when empty, since the BBS crashes without."""
    message = desired.DesiredLRPUpdate()
    if update.instances is not None:
        message.instances = update.instances
    if update.routes is not None:
        message.routes.SetInParent()
        for key, value in update.routes.items():
            message.routes.routes[key] = value
    if update.annotation is not None:
        message.annotation = update.annotation
    if update.credentials is not None:
        message.image_username = update.credentials.username
        message.image_password = update.credentials.password.value
    return requests.UpdateDesiredLRPRequest(process_guid=process_guid, update=message)


def _tag_from_message(message: tags.ModificationTag) -> ModificationTag:
    return ModificationTag(text_of(message, "epoch"), message.index)


def _credentials_of(message: desired.DesiredLRP | tasks.TaskDefinition) -> Credentials | None:
    username, password = text_of(message, "image_username"), text_of(message, "image_password")
    return Credentials(username, Secret(password)) if username or password else None


def _static_tags(values: Mapping[str, MetricTagValue]) -> Mapping[str, str]:
    # A map yields a name that is not UTF-8 as bytes, and fails on looking it up.
    static = {name: text_of(values[name], "static") for name in values if is_text(name)}
    return {name: value for name, value in static.items() if value}


def _environment(variables: Iterable[EnvironmentVariable]) -> Mapping[str, str]:
    return {text_of(variable, "name"): text_of(variable, "value") for variable in variables}


def _action_from_message(message: actions.Action) -> Action:
    # Not a oneof on the wire: where several are set, the lowest number wins.
    if message.HasField("download_action") or message.HasField("upload_action"):
        return OtherAction()
    if message.HasField("run_action"):
        run = message.run_action
        return RunAction(text_of(run, "path"), tuple(texts_of(run.args)), _environment(run.env))
    for _, wrapper in message.ListFields():  # in the order of their numbers
        inner = wrapper.actions if hasattr(wrapper, "actions") else (wrapper.action,)
        return WrapperAction(tuple(_action_from_message(one) for one in inner))
    return OtherAction()
