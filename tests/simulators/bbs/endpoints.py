"""Which path takes which request, checks it how, and answers what.

Left out, and answered 404: the deprecated groups of actual LRPs and the streams of version 0.
The deprecated r2 paths answer as r3 does, without upstream's rewriting of image layers.
Source: bbs routes.go, handlers/*.go.
"""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from protos.bbs import actual_lrp_requests_pb2 as actual_requests
from protos.bbs import cells_pb2, domain_pb2, ping_pb2
from protos.bbs import desired_lrp_requests_pb2 as desired_requests
from protos.bbs import evacuation_pb2 as evacuation_requests
from protos.bbs import task_requests_pb2 as task_requests
from protos.bbs.error_pb2 import Error
from protos.bbs.events_pb2 import EventsByCellId
from tests.simulators.bbs import actual, desired, evacuation, tasks, validation
from tests.simulators.bbs.actions import Problems
from tests.simulators.bbs.errors import BbsError, error, invalid
from tests.simulators.bbs.events import Topic
from tests.simulators.bbs.state import State, upsert_domain
from tests.simulators.bbs.versions import drop_new_fields

Request = TypeVar("Request", bound=Message)
Endpoint = Callable[[State, bytes, str], bytes]

STREAMS: dict[str, tuple[Topic, ...]] = {
    "/v1/events/lrp_instances.r1": (Topic.DESIRED, Topic.INSTANCES),
    "/v1/events/tasks.r1": (Topic.TASKS,),
}
ONLY_NEW = frozenset({"/v1/actual_lrps/list_by_process_guids"})


class Undecodable(Exception):
    """A stream's request body is no protobuf."""


def handle(state: State, path: str, body: bytes, trace_id: str = "") -> bytes | None:
    """Answer a call as the BBS does, failures included; None for a path that it does not know.

    Raises:
        Panic: The BBS would close the connection without an answer.
    """
    endpoint = ENDPOINTS.get(path)
    if endpoint is None or (path in ONLY_NEW and not state.is_new):
        return None
    try:
        return endpoint(state, body, trace_id)
    except BbsError as problem:
        failure = Error(type=problem.kind, message=problem.message)
        # Every response has its error under the same number.
        return task_requests.TaskLifecycleResponse(error=failure).SerializeToString()


def cell_filter(path: str, body: bytes) -> str:
    """Read which cell a stream is about; the task stream ignores it."""
    request = EventsByCellId()
    try:
        request.ParseFromString(body)
    except DecodeError as problem:
        raise Undecodable(path) from problem
    return request.cell_id if Topic.INSTANCES in STREAMS[path] else ""


def _endpoint(
    request_type: type[Request],
    answer: Callable[[State, Request, str], Message],
    check: Callable[[Request, bool], Problems] | None = None,
) -> Endpoint:
    def endpoint(state: State, body: bytes, trace_id: str) -> bytes:
        request = request_type()
        try:
            request.ParseFromString(body)
        except DecodeError as problem:
            raise error(Error.InvalidRequest) from problem
        request.DiscardUnknownFields()
        if not state.is_new:
            drop_new_fields(request)
        problems = [] if check is None else list(check(request, state.is_new))
        if problems:
            raise invalid(problems)
        return answer(state, request, trace_id).SerializeToString(deterministic=True)

    return endpoint


def _any_version(check: Callable[[Request], Problems]) -> Callable[[Request, bool], Problems]:
    return lambda request, _is_new: check(request)


def _nothing(state: State, request: Request, trace_id: str) -> Message:
    return ping_pb2.PingResponse(available=True)


def _domains(state: State, request: Message, trace_id: str) -> Message:
    return domain_pb2.DomainsResponse(domains=state.fresh_domains())


def _upsert_domain(state: State, request: domain_pb2.UpsertDomainRequest, trace_id: str) -> Message:
    upsert_domain(state, request.domain, request.ttl)
    return domain_pb2.UpsertDomainResponse()


def _cells(state: State, request: Message, trace_id: str) -> Message:
    response = cells_pb2.CellsResponse(cells=[cell.presence for cell in state.registered_cells().values()])
    if not state.is_new:
        drop_new_fields(response)
    return response


def _desired_list(state: State, request: desired_requests.DesiredLRPsRequest, trace_id: str) -> Message:
    return desired_requests.DesiredLRPsResponse(desired_lrps=desired.listed(state, request))


def _desired_get(
    state: State, request: desired_requests.DesiredLRPByProcessGuidRequest, trace_id: str
) -> Message:
    return desired_requests.DesiredLRPResponse(desired_lrp=desired.read(state, request.process_guid))


def _scheduling_list(state: State, request: desired_requests.DesiredLRPsRequest, trace_id: str) -> Message:
    return desired_requests.DesiredLRPSchedulingInfosResponse(
        desired_lrp_scheduling_infos=(
            desired.scheduling_info(lrp)
            for lrp in desired.matching(state, request.domain, request.process_guids)
            if lrp.process_guid not in state.unlisted
        )
    )


def _scheduling_get(
    state: State, request: desired_requests.DesiredLRPByProcessGuidRequest, trace_id: str
) -> Message:
    lrp = desired.found(state, request.process_guid)
    return desired_requests.DesiredLRPSchedulingInfoByProcessGuidResponse(
        desired_lrp_scheduling_info=desired.scheduling_info(lrp)
    )


def _routing_list(state: State, request: desired_requests.DesiredLRPsRequest, trace_id: str) -> Message:
    return desired_requests.DesiredLRPsResponse(
        desired_lrps=(desired.routing_info(lrp) for lrp in desired.matching(state, "", request.process_guids))
    )


def _desire(state: State, request: desired_requests.DesireLRPRequest, trace_id: str) -> Message:
    desired.desire(state, request.desired_lrp, trace_id)
    return desired_requests.DesiredLRPLifecycleResponse()


def _update(state: State, request: desired_requests.UpdateDesiredLRPRequest, trace_id: str) -> Message:
    change = request.update if request.HasField("update") else None
    desired.update(state, request.process_guid, change, trace_id)
    return desired_requests.DesiredLRPLifecycleResponse()


def _remove(state: State, request: desired_requests.RemoveDesiredLRPRequest, trace_id: str) -> Message:
    desired.remove(state, request.process_guid, trace_id)
    return desired_requests.DesiredLRPLifecycleResponse()


def _actual_list(state: State, request: actual_requests.ActualLRPsRequest, trace_id: str) -> Message:
    return actual_requests.ActualLRPsResponse(actual_lrps=actual.listed(state, request))


def _actual_by_guids(
    state: State, request: actual_requests.ActualLRPsByProcessGuidsRequest, trace_id: str
) -> Message:
    return actual_requests.ActualLRPsByProcessGuidsResponse(
        actual_lrps=(
            row
            for guid in dict.fromkeys(request.process_guids)
            for row in state.actual.get(guid, {}).values()
        )
    )


def _claim(state: State, request: actual_requests.ClaimActualLRPRequest, trace_id: str) -> Message:
    actual.claim(state, request.process_guid, request.index, request.actual_lrp_instance_key)
    return actual_requests.ActualLRPLifecycleResponse()


def _start(state: State, request: actual_requests.StartActualLRPRequest, trace_id: str) -> Message:
    actual.start(state, request)
    return actual_requests.ActualLRPLifecycleResponse()


def _start_r0(state: State, request: actual_requests.StartActualLRPRequest, trace_id: str) -> Message:
    actual.start(state, request, keeps_extras=False)
    return actual_requests.ActualLRPLifecycleResponse()


def _crash(state: State, request: actual_requests.CrashActualLRPRequest, trace_id: str) -> Message:
    actual.crash(state, request.actual_lrp_key, request.actual_lrp_instance_key, request.error_message)
    return actual_requests.ActualLRPLifecycleResponse()


def _fail(state: State, request: actual_requests.FailActualLRPRequest, trace_id: str) -> Message:
    actual.fail(state, request.actual_lrp_key, request.error_message)
    return actual_requests.ActualLRPLifecycleResponse()


def _actual_remove(state: State, request: actual_requests.RemoveActualLRPRequest, trace_id: str) -> Message:
    given = request.HasField("actual_lrp_instance_key")
    instance = request.actual_lrp_instance_key if given else None
    actual.remove(state, request.process_guid, request.index, instance)
    return actual_requests.ActualLRPLifecycleResponse()


def _retire(state: State, request: actual_requests.RetireActualLRPRequest, trace_id: str) -> Message:
    actual.retire(state, request.actual_lrp_key, trace_id)
    return actual_requests.ActualLRPLifecycleResponse()


def _evacuate_claimed(
    state: State, request: evacuation_requests.EvacuateClaimedActualLRPRequest, trace_id: str
) -> Message:
    evacuation.claimed(state, request.actual_lrp_key, request.actual_lrp_instance_key)
    return evacuation_requests.EvacuationResponse()


def _evacuate_crashed(
    state: State, request: evacuation_requests.EvacuateCrashedActualLRPRequest, trace_id: str
) -> Message:
    key, instance = request.actual_lrp_key, request.actual_lrp_instance_key
    evacuation.crashed(state, key, instance, request.error_message)
    return evacuation_requests.EvacuationResponse()


def _evacuate_stopped(
    state: State, request: evacuation_requests.EvacuateStoppedActualLRPRequest, trace_id: str
) -> Message:
    evacuation.stopped(state, request.actual_lrp_key, request.actual_lrp_instance_key)
    return evacuation_requests.EvacuationResponse()


def _evacuate_running(
    state: State, request: evacuation_requests.EvacuateRunningActualLRPRequest, trace_id: str
) -> Message:
    return evacuation_requests.EvacuationResponse(keep_container=evacuation.running(state, request))


def _remove_evacuating(
    state: State, request: evacuation_requests.RemoveEvacuatingActualLRPRequest, trace_id: str
) -> Message:
    evacuation.remove(state, request.actual_lrp_key, request.actual_lrp_instance_key)
    return evacuation_requests.RemoveEvacuatingActualLRPResponse()


def _task_list(state: State, request: task_requests.TasksRequest, trace_id: str) -> Message:
    return task_requests.TasksResponse(tasks=tasks.listed(state, request))


def _task_get(state: State, request: task_requests.TaskByGuidRequest, trace_id: str) -> Message:
    return task_requests.TaskResponse(task=tasks.found(state, request.task_guid))


def _task_desire(state: State, request: task_requests.DesireTaskRequest, trace_id: str) -> Message:
    tasks.desire(state, request.task_guid, request.domain, request.task_definition)
    return task_requests.TaskLifecycleResponse()


def _task_start(state: State, request: task_requests.StartTaskRequest, trace_id: str) -> Message:
    should_start = tasks.start(state, request.task_guid, request.cell_id)
    return task_requests.StartTaskResponse(should_start=should_start)


def _task_complete(state: State, request: task_requests.CompleteTaskRequest, trace_id: str) -> Message:
    tasks.complete(state, request)
    return task_requests.TaskLifecycleResponse()


def _task_fail(state: State, request: task_requests.FailTaskRequest, trace_id: str) -> Message:
    tasks.fail(state, request.task_guid, request.failure_reason)
    return task_requests.TaskLifecycleResponse()


def _task_reject(state: State, request: task_requests.RejectTaskRequest, trace_id: str) -> Message:
    tasks.reject(state, request.task_guid, request.rejection_reason)
    return task_requests.TaskLifecycleResponse()


def _task_move(move: Callable[[State, str], None]) -> Endpoint:
    def answer(state: State, request: task_requests.TaskGuidRequest, trace_id: str) -> Message:
        move(state, request.task_guid)
        return task_requests.TaskLifecycleResponse()

    return _endpoint(task_requests.TaskGuidRequest, answer, _any_version(validation.by_task_guid_problems))


def _check_desire(request: desired_requests.DesireLRPRequest, is_new: bool) -> Problems:  # noqa: FBT001 # as all checks are called
    return validation.desire_problems(request, is_new=is_new)


def _check_task(request: task_requests.DesireTaskRequest, is_new: bool) -> Problems:  # noqa: FBT001 # as all checks are called
    return validation.task_problems(request, is_new=is_new)


_by_process_guid = _any_version(validation.process_guid_problems)
_desired_list_endpoint = _endpoint(desired_requests.DesiredLRPsRequest, _desired_list)
_desired_get_endpoint = _endpoint(
    desired_requests.DesiredLRPByProcessGuidRequest, _desired_get, _by_process_guid
)
_task_list_endpoint = _endpoint(task_requests.TasksRequest, _task_list)
_task_get_endpoint = _endpoint(
    task_requests.TaskByGuidRequest, _task_get, _any_version(validation.by_task_guid_problems)
)
_evacuate_running_endpoint = _endpoint(
    evacuation_requests.EvacuateRunningActualLRPRequest,
    _evacuate_running,
    _any_version(validation.start_problems),
)

ENDPOINTS: dict[str, Endpoint] = {
    "/v1/ping": _endpoint(EventsByCellId, _nothing),
    "/v1/domains/list": _endpoint(EventsByCellId, _domains),
    "/v1/domains/upsert": _endpoint(
        domain_pb2.UpsertDomainRequest, _upsert_domain, _any_version(validation.domain_problems)
    ),
    "/v1/cells/list.r1": _endpoint(EventsByCellId, _cells),
    "/v1/desired_lrps/list.r3": _desired_list_endpoint,
    "/v1/desired_lrps/list.r2": _desired_list_endpoint,
    "/v1/desired_lrps/get_by_process_guid.r3": _desired_get_endpoint,
    "/v1/desired_lrps/get_by_process_guid.r2": _desired_get_endpoint,
    "/v1/desired_lrp_scheduling_infos/list": _endpoint(desired_requests.DesiredLRPsRequest, _scheduling_list),
    "/v1/desired_lrp_scheduling_infos/get_by_process_guid": _endpoint(
        desired_requests.DesiredLRPByProcessGuidRequest, _scheduling_get, _by_process_guid
    ),
    "/v1/desired_lrp_routing_infos/list": _endpoint(desired_requests.DesiredLRPsRequest, _routing_list),
    "/v1/desired_lrp/desire.r2": _endpoint(desired_requests.DesireLRPRequest, _desire, _check_desire),
    "/v1/desired_lrp/update": _endpoint(
        desired_requests.UpdateDesiredLRPRequest, _update, _any_version(validation.update_problems)
    ),
    "/v1/desired_lrp/remove": _endpoint(
        desired_requests.RemoveDesiredLRPRequest, _remove, _any_version(validation.process_guid_problems)
    ),
    "/v1/actual_lrps/list": _endpoint(actual_requests.ActualLRPsRequest, _actual_list),
    "/v1/actual_lrps/list_by_process_guids": _endpoint(
        actual_requests.ActualLRPsByProcessGuidsRequest,
        _actual_by_guids,
        _any_version(validation.by_process_guids_problems),
    ),
    "/v1/actual_lrps/claim": _endpoint(
        actual_requests.ClaimActualLRPRequest, _claim, _any_version(validation.claim_problems)
    ),
    "/v1/actual_lrps/start.r1": _endpoint(
        actual_requests.StartActualLRPRequest, _start, _any_version(validation.start_problems)
    ),
    "/v1/actual_lrps/start": _endpoint(
        actual_requests.StartActualLRPRequest, _start_r0, _any_version(validation.start_problems)
    ),
    "/v1/actual_lrps/crash": _endpoint(
        actual_requests.CrashActualLRPRequest, _crash, _any_version(validation.instance_problems)
    ),
    "/v1/actual_lrps/fail": _endpoint(
        actual_requests.FailActualLRPRequest, _fail, _any_version(validation.fail_problems)
    ),
    "/v1/actual_lrps/remove": _endpoint(
        actual_requests.RemoveActualLRPRequest, _actual_remove, _any_version(validation.remove_problems)
    ),
    "/v1/actual_lrps/retire": _endpoint(
        actual_requests.RetireActualLRPRequest, _retire, _any_version(validation.retire_problems)
    ),
    "/v1/actual_lrps/evacuate_claimed": _endpoint(
        evacuation_requests.EvacuateClaimedActualLRPRequest,
        _evacuate_claimed,
        _any_version(validation.instance_problems),
    ),
    "/v1/actual_lrps/evacuate_crashed": _endpoint(
        evacuation_requests.EvacuateCrashedActualLRPRequest,
        _evacuate_crashed,
        _any_version(validation.evacuate_crashed_problems),
    ),
    "/v1/actual_lrps/evacuate_stopped": _endpoint(
        evacuation_requests.EvacuateStoppedActualLRPRequest,
        _evacuate_stopped,
        _any_version(validation.instance_problems),
    ),
    "/v1/actual_lrps/evacuate_running.r1": _evacuate_running_endpoint,
    "/v1/actual_lrps/evacuate_running": _evacuate_running_endpoint,
    "/v1/actual_lrps/remove_evacuating": _endpoint(
        evacuation_requests.RemoveEvacuatingActualLRPRequest,
        _remove_evacuating,
        _any_version(validation.instance_problems),
    ),
    "/v1/tasks/list.r3": _task_list_endpoint,
    "/v1/tasks/list.r2": _task_list_endpoint,
    "/v1/tasks/get_by_task_guid.r3": _task_get_endpoint,
    "/v1/tasks/get_by_task_guid.r2": _task_get_endpoint,
    "/v1/tasks/desire.r2": _endpoint(task_requests.DesireTaskRequest, _task_desire, _check_task),
    "/v1/tasks/start": _endpoint(
        task_requests.StartTaskRequest, _task_start, _any_version(validation.on_cell_problems)
    ),
    "/v1/tasks/cancel": _task_move(tasks.cancel),
    "/v1/tasks/fail": _endpoint(
        task_requests.FailTaskRequest, _task_fail, _any_version(validation.fail_task_problems)
    ),
    "/v1/tasks/reject": _endpoint(
        task_requests.RejectTaskRequest, _task_reject, _any_version(validation.reject_problems)
    ),
    "/v1/tasks/complete": _endpoint(
        task_requests.CompleteTaskRequest, _task_complete, _any_version(validation.on_cell_problems)
    ),
    "/v1/tasks/resolving": _task_move(tasks.resolving),
    "/v1/tasks/delete": _task_move(tasks.delete),
}
