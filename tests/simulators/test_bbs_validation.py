"""What the simulated BBS refuses, in which words, and how it rewrites what it accepts."""

import pytest
from google.protobuf.message import Message

from protos.bbs.actions_pb2 import Action, SerialAction, TimeoutAction
from protos.bbs.actual_lrp_pb2 import ActualLRPInstanceKey, ActualLRPKey
from protos.bbs.actual_lrp_requests_pb2 import (
    ActualLRPsByProcessGuidsRequest,
    ClaimActualLRPRequest,
    CrashActualLRPRequest,
    RetireActualLRPRequest,
)
from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate, ProtoRoutes
from protos.bbs.desired_lrp_requests_pb2 import (
    DesiredLRPByProcessGuidRequest,
    DesireLRPRequest,
    UpdateDesiredLRPRequest,
)
from protos.bbs.environment_variables_pb2 import EnvironmentVariable
from protos.bbs.error_pb2 import Error
from protos.bbs.file_pb2 import File
from protos.bbs.log_rate_limit_pb2 import LogRateLimit
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.security_group_pb2 import ICMPInfo, PortRange, SecurityGroupRule
from protos.bbs.task_requests_pb2 import DesireTaskRequest, RejectTaskRequest, TaskLifecycleResponse
from tests.simulators.bbs import State, Version, desired
from tests.simulators.bbs.endpoints import handle
from tests.simulators.bbs.errors import Panic
from tests.simulators.bbs.routes_json import normalise
from tests.simulators.bbs_probe import some_action, some_lrp, some_task

DESIRE = "/v1/desired_lrp/desire.r2"


def refused(path: str, request: Message, version: Version = Version.NEW) -> str:
    body = handle(State(version), path, request.SerializeToString())
    assert body is not None
    answer = TaskLifecycleResponse.FromString(body)
    assert not answer.HasField("error") or answer.error.type == Error.InvalidRequest
    return answer.error.message


def fields(*names: str) -> str:
    return ", ".join(f"Invalid field: {name}" for name in names)


LRPS: list[tuple[DesiredLRP, str]] = [
    (DesiredLRP(process_guid="not a guid!"), fields("process_guid")),
    (DesiredLRP(root_fs="no-scheme"), fields("rootfs")),
    (DesiredLRP(root_fs="docker://host:port/path"), fields("rootfs")),
    (DesiredLRP(instances=-1, memory_mb=-1, disk_mb=-1), fields("instances", "memory_mb", "disk_mb")),
    (
        DesiredLRP(log_rate_limit=LogRateLimit(bytes_per_second=-2)),
        fields("log_rate_limit_bytes_per_second", "log_rate_limit"),
    ),
    (DesiredLRP(annotation="a" * 10241), fields("annotation")),
    (DesiredLRP(routes=ProtoRoutes(routes={"r": b'"' + b"r" * 131072})), fields("routes")),
    (DesiredLRP(metrics_guid="other"), f"{fields('metric_tags')}, source_id should match metrics_guid"),
    (DesiredLRP(metric_tags={"bad": MetricTagValue()}), fields("metric_tags", "static", "dynamic")),
    (DesiredLRP(setup=Action()), fields("setup", "inner-action")),
    (DesiredLRP(monitor=Action(serial_action=SerialAction())), fields("monitor", "actions")),
    (DesiredLRP(environment_variables=[EnvironmentVariable()]), "invalid field: name cannot be blank"),
    (DesiredLRP(image_username="user"), fields("image_password")),
    (DesiredLRP(image_password="password"), fields("image_username")),
    (
        DesiredLRP(egress_rules=[SecurityGroupRule(protocol="tcp", destinations=["10.0.0.0/8"])]),
        "Invalid field: egress_rules, Missing required field: ports or port_range",
    ),
    (
        DesiredLRP(
            egress_rules=[
                SecurityGroupRule(
                    protocol="udp",
                    destinations=["0.0.0.0-9.255.255.255"],
                    port_range=PortRange(start=2, end=1),
                )
            ]
        ),
        fields("egress_rules", "port_range"),
    ),
    (DesiredLRP(volume_mounted_files=[File(content="f" * 1048577)]), fields(*["volumeMountedFiles"] * 2)),
    (DesiredLRP(process_guid="g" * 256), "the request received is invalid"),
    (DesiredLRP(root_fs=f"docker://{'r' * 1024}"), "the request received is invalid"),
    (DesiredLRP(routes=ProtoRoutes(routes={"r": b"{"})), "the request received is invalid"),
]


@pytest.mark.parametrize(("change", "message"), LRPS)
def test_a_desired_lrp_is_refused_in_the_bbs_words(change: DesiredLRP, message: str) -> None:
    lrp = some_lrp()
    lrp.MergeFrom(change)

    assert refused(DESIRE, DesireLRPRequest(desired_lrp=lrp)) == message


@pytest.mark.parametrize("inner", [Action(), Action(timeout_action=TimeoutAction(action=Action()))])
def test_an_empty_action_within_an_action_is_a_panic(inner: Action) -> None:
    lrp = some_lrp()
    lrp.action.CopyFrom(Action(serial_action=SerialAction(actions=[inner])))

    with pytest.raises(Panic):
        refused(DESIRE, DesireLRPRequest(desired_lrp=lrp))


def test_icmpv6_and_big_files_are_known_to_the_newer_version_alone() -> None:
    rule = SecurityGroupRule(protocol="icmpv6", destinations=["::/0"], icmp_info=ICMPInfo(type=1))
    lrp = some_lrp()
    lrp.egress_rules.append(rule)
    request = DesireLRPRequest(desired_lrp=lrp)
    big = DesireLRPRequest(desired_lrp=some_lrp())
    big.desired_lrp.volume_mounted_files.add(content="f" * 1048577)

    assert refused(DESIRE, request, Version.NEW) == ""
    assert refused(DESIRE, request, Version.OLD) == fields("egress_rules", "protocol")
    assert refused(DESIRE, big, Version.OLD) == ""


REQUESTS: list[tuple[str, Message, str]] = [
    (DESIRE, DesireLRPRequest(), fields("desired_lrp")),
    ("/v1/desired_lrp/update", UpdateDesiredLRPRequest(), fields("process_guid")),
    (
        "/v1/desired_lrp/update",
        UpdateDesiredLRPRequest(process_guid="g", update=DesiredLRPUpdate(instances=-1, image_username="u")),
        fields("instances", "image_password"),
    ),
    ("/v1/desired_lrps/get_by_process_guid.r3", DesiredLRPByProcessGuidRequest(), fields("process_guid")),
    (
        "/v1/actual_lrps/list_by_process_guids",
        ActualLRPsByProcessGuidsRequest(),
        "process_guids must not be empty",
    ),
    (
        "/v1/actual_lrps/claim",
        ClaimActualLRPRequest(actual_lrp_instance_key=ActualLRPInstanceKey()),
        fields("process_guid", "actual_lrp_instance_key", "cell_id", "instance_guid"),
    ),
    (
        "/v1/actual_lrps/crash",
        CrashActualLRPRequest(),
        fields("actual_lrp_key", "actual_lrp_instance_key"),
    ),
    (
        "/v1/actual_lrps/retire",
        RetireActualLRPRequest(actual_lrp_key=ActualLRPKey(index=-1)),
        fields("actual_lrp_key", "process_guid", "index", "domain"),
    ),
    ("/v1/tasks/desire.r2", DesireTaskRequest(task_guid="t", domain="d"), fields("task_definition")),
    ("/v1/tasks/reject", RejectTaskRequest(task_guid="t"), fields("failure_reason")),
]


@pytest.mark.parametrize(("path", "request_", "message"), REQUESTS)
def test_a_request_is_refused_in_the_bbs_words(path: str, request_: Message, message: str) -> None:
    assert refused(path, request_) == message


def test_a_task_with_half_its_credentials_is_refused() -> None:
    definition = some_task()
    definition.image_username = "user"
    request = DesireTaskRequest(task_guid="t", domain="d", task_definition=definition)

    assert refused("/v1/tasks/desire.r2", request) == fields("image_password")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (b' { "a" : [ 1.0 , "x y" ] } ', b'{"a":[1.0,"x y"]}'),
        (b'"<&>"', b'"\\u003c\\u0026\\u003e"'),
        ('"\u2028\u2029é"'.encode(), '"\\u2028\\u2029é"'.encode()),
        (b'{"b":1,"a":1e2,"b":"\\" \\\\"}', b'{"b":1,"a":1e2,"b":"\\" \\\\"}'),
    ],
)
def test_routes_are_compacted_and_escaped_as_go_does(text: bytes, stored: bytes) -> None:
    assert normalise(text) == stored


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"{'a':1}", b"1 2"])
def test_routes_that_are_no_json_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        normalise(text)


def test_what_is_read_back_differs_from_what_was_desired_where_the_bbs_differs() -> None:
    state = State()
    lrp = some_lrp(instances=0)
    lrp.deprecated_start_timeout_s = 9
    lrp.ports.extend([8080, 2222, 8080])
    lrp.modification_tag.epoch = "mine"

    desired.desire(state, lrp)

    stored, shown = state.desired["some-guid"], desired.read(state, "some-guid")
    assert (stored.metrics_guid, shown.metrics_guid) == ("", "some-source")
    assert shown.deprecated_start_timeout_s == 0
    assert list(shown.ports) == [8080, 2222]
    assert shown.modification_tag.epoch not in {"", "mine"}
    assert shown.HasField("routes")


def test_the_source_id_is_filled_in_from_the_metrics_guid() -> None:
    state = State()
    lrp = some_lrp(instances=0)
    lrp.metric_tags.clear()
    lrp.metric_tags["app_id"].static = "some-app"
    lrp.metrics_guid = "some-source"

    desired.desire(state, lrp)

    assert desired.read(state, "some-guid").metric_tags["source_id"].static == "some-source"
    assert "source_id" not in state.desired["some-guid"].metric_tags


def test_the_older_version_takes_credentials_for_an_empty_update() -> None:
    change = DesiredLRPUpdate(image_username="user", image_password="password")
    request = UpdateDesiredLRPRequest(process_guid="some-guid", update=change).SerializeToString()
    seen = {}
    for version in Version:
        state = State(version)
        desired.desire(state, some_lrp(instances=0))
        assert handle(state, "/v1/desired_lrp/update", request) == b""
        lrp = state.desired["some-guid"]
        seen[version] = (lrp.image_username, lrp.modification_tag.index)

    assert seen == {Version.OLD: ("", 1), Version.NEW: ("user", 1)}


def test_the_older_version_does_not_know_the_list_by_guids() -> None:
    request = ActualLRPsByProcessGuidsRequest(process_guids=["g"]).SerializeToString()

    assert handle(State(Version.OLD), "/v1/actual_lrps/list_by_process_guids", request) is None
    assert handle(State(Version.NEW), "/v1/actual_lrps/list_by_process_guids", request) == b""


def test_unknown_fields_are_dropped_at_any_depth() -> None:
    unknown = b"\xf8\x3f\x07"  # number 1023, a varint
    lrp = some_lrp(instances=0)
    action = some_action().SerializeToString() + unknown
    lrp.ClearField("action")
    field = b"\x3a" + bytes([len(action)]) + action
    inner = lrp.SerializeToString() + field + unknown
    body = b"\x0a" + bytes([len(inner)]) + inner
    state = State()

    assert handle(state, DESIRE, body) == b""
    assert unknown not in state.desired["some-guid"].SerializeToString()


def test_an_update_with_an_empty_login_takes_the_login_away() -> None:
    """Both parts are present, and empty; half a login is refused by the version that knows it."""
    taken = DesiredLRPUpdate(image_username="", image_password="")
    request = UpdateDesiredLRPRequest(process_guid="some-guid", update=taken).SerializeToString()
    seen = {}
    for version in Version:
        state = State(version)
        lrp = some_lrp(instances=0)
        lrp.image_username, lrp.image_password = "user", "password"
        desired.desire(state, lrp)
        assert handle(state, "/v1/desired_lrp/update", request) == b""
        after = state.desired["some-guid"]
        seen[version] = (after.image_username, after.image_password, after.modification_tag.index)

    assert seen == {Version.OLD: ("user", "password", 1), Version.NEW: ("", "", 1)}
