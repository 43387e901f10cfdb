"""Writes the definitions of canaries: a task and an LRP with nothing but what cells need.

Cells get the image and the login in the same form as for an app's LRP. Nothing else is shared with apps: no
log GUID, no routes, no egress rules.
"""

from controller.bbs.messages import credentials_fields
from protos.bbs.actions_pb2 import Action, RunAction
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.desired_lrp_requests_pb2 import DesireLRPRequest
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.task_pb2 import TaskDefinition
from protos.bbs.task_requests_pb2 import DesireTaskRequest
from reconcile.canary import CANARY_DOMAIN, DISK_MB, MAX_PIDS, MEMORY_MB, PROGRAM, Canary

_START_TIMEOUT_MS = 60_000


def task_request(canary: Canary) -> DesireTaskRequest:
    """Make the request that desires a canary's task."""
    username, password = credentials_fields(canary.pull.credentials)
    definition = TaskDefinition(
        root_fs=canary.pull.rootfs.uri,
        action=_action(),
        memory_mb=MEMORY_MB,
        disk_mb=DISK_MB,
        max_pids=MAX_PIDS,
        cpu_weight=1,
        placement_tags=sorted(canary.placement_tags),
        image_username=username,
        image_password=password,
    )
    return DesireTaskRequest(task_definition=definition, task_guid=canary.guid, domain=CANARY_DOMAIN)


def lrp_request(canary: Canary) -> DesireLRPRequest:
    """Make the request that desires a canary's LRP."""
    username, password = credentials_fields(canary.pull.credentials)
    lrp = DesiredLRP(
        process_guid=canary.guid,
        domain=CANARY_DOMAIN,
        root_fs=canary.pull.rootfs.uri,
        instances=canary.instances,
        action=_action(),
        memory_mb=MEMORY_MB,
        disk_mb=DISK_MB,
        max_pids=MAX_PIDS,
        cpu_weight=1,
        start_timeout_ms=_START_TIMEOUT_MS,
        PlacementTags=sorted(canary.placement_tags),
        image_username=username,
        image_password=password,
        metric_tags={"source_id": MetricTagValue(static=CANARY_DOMAIN)},  # the BBS refuses an LRP without any
    )
    return DesireLRPRequest(desired_lrp=lrp)


def _action() -> Action:
    return Action(run_action=RunAction(path=PROGRAM, user="root", suppress_log_output=True))
