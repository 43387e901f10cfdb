"""Checks requests as the BBS does when it parses them: which messages, in which order.

The parts of definitions are checked by the neighbour (`actions`), column limits where rows are written.
Source: bbs models/desired_lrp.go, desired_lrp_requests.go, actual_lrp.go, actual_lrp_requests.go, task.go,
task_requests.go, domain.go, evacuation.go.
"""

import re
from collections.abc import Iterable, Mapping

from protos.bbs import actual_lrp_requests_pb2 as actual_requests
from protos.bbs import desired_lrp_requests_pb2 as desired_requests
from protos.bbs import evacuation_pb2 as evacuation
from protos.bbs import task_requests_pb2 as task_requests
from protos.bbs.actions_pb2 import Action
from protos.bbs.actual_lrp_pb2 import ActualLRPInstanceKey, ActualLRPKey, ActualLRPNetInfo
from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate
from protos.bbs.domain_pb2 import UpsertDomainRequest
from protos.bbs.image_layer_pb2 import ImageLayer
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.task_pb2 import TaskDefinition
from tests.simulators.bbs import actions
from tests.simulators.bbs.actions import NO_ACTION, Problems, blank, field, negative, within

MAX_ANNOTATION = 10 * 1024
MAX_ROUTES = 128 * 1024
MAX_FILES = 1024 * 1024

_GUID = re.compile(r"[a-zA-Z0-9_-]+")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(//(?P<authority>[^/?#]*))?[^\x00-\x1f\x7f]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_AUTHORITY = re.compile(r"(.*@)?(\[[^\]]*\]|[^\s:<>\"]*)(:[0-9]*)?")

Keyed = (
    actual_requests.CrashActualLRPRequest
    | evacuation.EvacuateClaimedActualLRPRequest
    | evacuation.EvacuateStoppedActualLRPRequest
    | evacuation.RemoveEvacuatingActualLRPRequest
)


def byte_length(text: str | bytes) -> int:
    """Count the bytes of a text; text that is no UTF-8 reads as bytes."""
    return len(text if isinstance(text, bytes) else text.encode())


def is_url(text: str) -> bool:
    """Tell whether Go parses a text as a URL with a scheme."""
    found = _URL.fullmatch(text)
    if found is None or _BAD_ESCAPE.search(text):
        return False
    return found["authority"] is None or _AUTHORITY.fullmatch(found["authority"]) is not None


def domain_problems(request: UpsertDomainRequest) -> Problems:
    """Check a domain upsert."""
    return blank(domain=request.domain)


def process_guid_problems(
    request: desired_requests.DesiredLRPByProcessGuidRequest
    | desired_requests.RemoveDesiredLRPRequest
    | actual_requests.ActualLRPGroupsByProcessGuidRequest,
) -> Problems:
    """Check a request that names a desired LRP: any text will do, but no text will not."""
    return blank(process_guid=request.process_guid)


def desire_problems(request: desired_requests.DesireLRPRequest, *, is_new: bool) -> Problems:
    """Check a desire request; `is_new` means by the rules of 2026."""
    if not request.HasField("desired_lrp"):
        yield field("desired_lrp")
        return
    yield from _desired_lrp(request.desired_lrp, is_new=is_new)


def _desired_lrp(lrp: DesiredLRP, *, is_new: bool) -> Problems:
    yield from _files(lrp)
    yield from blank(domain=lrp.domain, rootfs=lrp.root_fs)
    if not is_url(lrp.root_fs):
        yield field("rootfs")
    yield from negative(instances=lrp.instances, memory_mb=lrp.memory_mb, disk_mb=lrp.disk_mb)
    if lrp.log_rate_limit.bytes_per_second < -1:
        yield field("log_rate_limit_bytes_per_second")
    yield from _annotation(lrp.annotation)
    yield from negative(max_pids=lrp.max_pids)
    yield from _routes(lrp.routes.routes)
    if not lrp.metric_tags:
        yield field("metric_tags")
    yield from _metric_tags(lrp.metric_tags, lrp.metrics_guid)
    yield from _run_info(lrp, is_new=is_new)


def _run_info(lrp: DesiredLRP, *, is_new: bool) -> Problems:
    yield from blank(domain=lrp.domain)
    if not _GUID.fullmatch(lrp.process_guid):
        yield field("process_guid")
    yield from _files(lrp)
    if lrp.HasField("setup"):
        yield from within("setup", actions.action_problems(lrp.setup))
    yield from _action(lrp)
    if lrp.HasField("monitor"):
        yield from within("monitor", actions.action_problems(lrp.monitor))
    if not all(variable.name for variable in lrp.environment_variables):
        yield "invalid field: name cannot be blank"
    for rule in lrp.egress_rules:
        yield from within("egress_rules", actions.rule_problems(rule, knows_icmpv6=is_new))
    yield from _dependencies(lrp)
    for sidecar in lrp.sidecars:
        yield from within("sidecars", actions.sidecar_problems(sidecar))
    for mount in lrp.volume_mounts:
        yield from actions.mount_problems(mount)
    yield from _credentials(username=bool(lrp.image_username), password=bool(lrp.image_password))
    if lrp.HasField("check_definition"):
        yield from within("check_definition", actions.checks_problems(lrp.check_definition))
    if lrp.log_rate_limit.bytes_per_second < -1:
        yield field("log_rate_limit")


def _files(lrp: DesiredLRP) -> Problems:
    if sum(byte_length(file.content) for file in lrp.volume_mounted_files) > MAX_FILES:
        yield field("volumeMountedFiles")


def _annotation(text: str) -> Problems:
    if byte_length(text) > MAX_ANNOTATION:
        yield field("annotation")


def _routes(routes: Mapping[str, bytes]) -> Problems:
    if sum(map(len, routes.values())) > MAX_ROUTES:
        yield field("routes")


def _metric_tags(tags: Mapping[str, MetricTagValue], metrics_guid: str = "") -> Problems:
    found = [problem for tag in tags.values() for problem in actions.tag_problems(tag)]
    source_id = tags["source_id"].static if "source_id" in tags else ""
    if metrics_guid and source_id and source_id != metrics_guid:
        found.append("source_id should match metrics_guid")
    yield from within("metric_tags", found)


def _action(definition: DesiredLRP | TaskDefinition) -> Problems:
    if not definition.HasField("action") or definition.action == Action():
        yield NO_ACTION
    else:
        yield from within("action", actions.action_problems(definition.action))


def _dependencies(definition: DesiredLRP | TaskDefinition) -> Problems:
    for dependency in definition.cached_dependencies:
        yield from within("cached_dependency", actions.dependency_problems(dependency))
    for layer in definition.image_layers:
        yield from within("image_layer", actions.layer_problems(layer))
    exclusive = any(layer.layer_type == ImageLayer.EXCLUSIVE for layer in definition.image_layers)
    if exclusive and not definition.legacy_download_user:
        yield field("legacy_download_user")


def _credentials(*, username: bool, password: bool) -> Problems:
    if password and not username:
        yield field("image_username")
    if username and not password:
        yield field("image_password")


def update_problems(request: desired_requests.UpdateDesiredLRPRequest) -> Problems:
    """Check an update; one without its update message passes."""
    yield from blank(process_guid=request.process_guid)
    yield from _update(request.update)


def _update(update: DesiredLRPUpdate) -> Problems:
    yield from negative(instances=update.instances)
    yield from _annotation(update.annotation)
    yield from _routes(update.routes.routes)
    yield from _metric_tags(update.metric_tags)
    yield from _credentials(
        username=update.HasField("image_username"), password=update.HasField("image_password")
    )


def task_problems(request: task_requests.DesireTaskRequest, *, is_new: bool) -> Problems:
    """Check a task that is desired; `is_new` means by the rules of 2026."""
    yield from guid_problems(request.task_guid)
    yield from blank(domain=request.domain)
    if not request.HasField("task_definition"):
        yield field("task_definition")
        return
    definition = request.task_definition
    if not is_url(definition.root_fs):
        yield field("rootfs")
    yield from _action(definition)
    yield from negative(
        memory_mb=definition.memory_mb, disk_mb=definition.disk_mb, max_pids=definition.max_pids
    )
    if definition.log_rate_limit.bytes_per_second < -1:
        yield field("log_rate_limit")
    yield from _annotation(definition.annotation)
    for rule in definition.egress_rules:
        if list(actions.rule_problems(rule, knows_icmpv6=is_new)):
            yield field("egress_rules")
    yield from _credentials(
        username=bool(definition.image_username), password=bool(definition.image_password)
    )
    yield from _dependencies(definition)


def guid_problems(guid: str) -> Problems:
    """Check a task GUID against the pattern."""
    if not _GUID.fullmatch(guid):
        yield field("task_guid")


def on_cell_problems(request: task_requests.StartTaskRequest | task_requests.CompleteTaskRequest) -> Problems:
    """Check a cell's request about a task."""
    yield from guid_problems(request.task_guid)
    yield from blank(cell_id=request.cell_id)


def fail_task_problems(request: task_requests.FailTaskRequest) -> Problems:
    """Check the failing of a task."""
    yield from guid_problems(request.task_guid)
    yield from blank(failure_reason=request.failure_reason)


def reject_problems(request: task_requests.RejectTaskRequest) -> Problems:
    """Check the rejection of a task, whose message names the wrong field."""
    yield from guid_problems(request.task_guid)
    yield from blank(failure_reason=request.rejection_reason)


def by_task_guid_problems(
    request: task_requests.TaskGuidRequest | task_requests.TaskByGuidRequest,
) -> Problems:
    """Check a request that names a task."""
    return blank(task_guid=request.task_guid)


def by_process_guids_problems(request: actual_requests.ActualLRPsByProcessGuidsRequest) -> Problems:
    """Check a listing of actual LRPs by process GUIDs."""
    if not request.process_guids:
        yield "process_guids must not be empty"


def claim_problems(request: actual_requests.ClaimActualLRPRequest) -> Problems:
    """Check a claim."""
    yield from blank(process_guid=request.process_guid)
    yield from _instance_key(request)


def remove_problems(
    request: actual_requests.RemoveActualLRPRequest
    | actual_requests.ActualLRPGroupByProcessGuidAndIndexRequest,
) -> Problems:
    """Check a request that names one instance."""
    yield from blank(process_guid=request.process_guid)
    yield from negative(index=request.index)


def start_problems(
    request: actual_requests.StartActualLRPRequest | evacuation.EvacuateRunningActualLRPRequest,
) -> Problems:
    """Check a start, or the evacuation of a running instance."""
    yield from _key(request)
    yield from _instance_key(request)
    net_info: ActualLRPNetInfo = request.actual_lrp_net_info
    if not request.HasField("actual_lrp_net_info"):
        yield field("actual_lrp_net_info")
    else:
        yield from within("actual_lrp_net_info", blank(address=net_info.address))


def instance_problems(request: Keyed) -> Problems:
    """Check a request with a key and an instance key."""
    yield from _key(request)
    yield from _instance_key(request)


def evacuate_crashed_problems(request: evacuation.EvacuateCrashedActualLRPRequest) -> Problems:
    """Check the evacuation of a crashed instance."""
    yield from _key(request)
    yield from _instance_key(request)
    yield from blank(error_message=request.error_message)


def fail_problems(request: actual_requests.FailActualLRPRequest) -> Problems:
    """Check a failed placement."""
    yield from _key(request)
    yield from blank(error_message=request.error_message)


def retire_problems(request: actual_requests.RetireActualLRPRequest) -> Problems:
    """Check a retirement."""
    return _key(request)


WithKey = (
    Keyed
    | actual_requests.StartActualLRPRequest
    | actual_requests.FailActualLRPRequest
    | actual_requests.RetireActualLRPRequest
    | evacuation.EvacuateRunningActualLRPRequest
    | evacuation.EvacuateCrashedActualLRPRequest
)
WithInstanceKey = (
    Keyed
    | actual_requests.StartActualLRPRequest
    | actual_requests.ClaimActualLRPRequest
    | evacuation.EvacuateRunningActualLRPRequest
    | evacuation.EvacuateCrashedActualLRPRequest
)


def _key(request: WithKey) -> Problems:
    if not request.HasField("actual_lrp_key"):
        return iter((field("actual_lrp_key"),))
    key: ActualLRPKey = request.actual_lrp_key
    inner: Iterable[str] = (
        *blank(process_guid=key.process_guid),
        *negative(index=key.index),
        *blank(domain=key.domain),
    )
    return within("actual_lrp_key", inner)


def _instance_key(request: WithInstanceKey) -> Problems:
    if not request.HasField("actual_lrp_instance_key"):
        return iter((field("actual_lrp_instance_key"),))
    key: ActualLRPInstanceKey = request.actual_lrp_instance_key
    return within("actual_lrp_instance_key", blank(cell_id=key.cell_id, instance_guid=key.instance_guid))
