"""Covers messages to values and back: what a rewrite must not touch, and text that is none."""

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from controller.bbs.messages import (
    LrpUpdate,
    actual_lrp_from_message,
    cell_from_message,
    definition_with_image,
    desired_lrp_from_message,
    docker_scheduling_info_from_record,
    message_from_update,
    original_definition,
    scheduling_info_from_message,
    task_from_message,
)
from protos.bbs.actions_pb2 import Action, DownloadAction, RunAction, SerialAction, TimeoutAction, TryAction
from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPInstanceKey, ActualLRPKey
from protos.bbs.cells_pb2 import CellPresence, Provider
from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPKey, DesiredLRPSchedulingInfo
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.modification_tag_pb2 import ModificationTag as TagMessage
from protos.bbs.task_pb2 import Task, TaskDefinition
from reconcile import lrps
from reconcile.errors import Invalid
from reconcile.lrps import Credentials, OtherAction, ProcessGuid, Secret, TaskState, WrapperAction
from reconcile.references import Rootfs
from tests.contracts.bbs_full_lrp import full_lrp

BASE = full_lrp(
    DesiredLRP(
        process_guid="p", domain="d", root_fs="docker:///a/b#c", instances=2, annotation="1.5", log_guid="l"
    )
)
FIELDS = [field.name for field in DesiredLRP.DESCRIPTOR.fields]
IMAGE = ("root_fs", "image_username", "image_password")

unknown_fields = st.lists(
    st.tuples(st.integers(1000, 1010), st.binary(max_size=20)).map(
        lambda pair: bytes([(pair[0] << 3 | 2) & 0x7F | 0x80, pair[0] >> 4, len(pair[1])]) + pair[1]
    ),
    max_size=3,
).map(b"".join)


def canonical(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def without_image(message: DesiredLRP) -> bytes:
    copy = DesiredLRP.FromString(message.SerializeToString())
    for name in IMAGE:
        copy.ClearField(name)
    return canonical(copy)


@given(
    cleared=st.sets(st.sampled_from(FIELDS)),
    top=unknown_fields,
    nested=unknown_fields,
    annotation=st.binary(max_size=20),
    image=st.sampled_from([None, Credentials("u", Secret("p"))]),
)
def test_a_rewrite_changes_the_image_and_nothing_else(
    cleared: set[str], top: bytes, nested: bytes, annotation: bytes, image: Credentials | None
) -> None:
    original = DesiredLRP()
    original.CopyFrom(BASE)
    for name in cleared:
        original.ClearField(name)
    original.action.run_action.MergeFromString(nested)
    original.MergeFromString(top + b"\x9a\x01" + bytes([len(annotation)]) + annotation)  # any bytes as a text
    lrp = desired_lrp_from_message(original)

    request = definition_with_image(
        lrp.definition, rootfs=Rootfs("docker://cache/g#latest"), credentials=image
    )

    rewritten = request.desired_lrp
    assert without_image(rewritten) == without_image(original)
    assert rewritten.root_fs == "docker://cache/g#latest"
    assert (rewritten.image_username, rewritten.image_password) == (("u", "p") if image else ("", ""))
    assert canonical(original_definition(lrp.definition).desired_lrp) == canonical(original)


def test_a_rewrite_is_what_goes_over_the_wire() -> None:
    unknown = b"\xfa\x3f\x02hi"
    lrp = desired_lrp_from_message(DesiredLRP.FromString(BASE.SerializeToString() + unknown))

    sent = definition_with_image(lrp.definition, rootfs=Rootfs("docker://c/g#l"), credentials=None)

    assert unknown in sent.SerializeToString()


def test_a_desired_lrp_is_read() -> None:
    message = DesiredLRP()
    message.CopyFrom(BASE)
    message.modification_tag.CopyFrom(TagMessage(epoch="e", index=7))
    message.PlacementTags.extend(["segment", "other"])
    lrp = desired_lrp_from_message(message)

    assert (lrp.process_guid, lrp.domain, lrp.app_guid, lrp.instances) == ("p", "d", "l", 2)
    assert lrp.rootfs == Rootfs("docker:///a/b#c")
    assert lrp.tag == lrps.ModificationTag("e", 7)
    assert lrp.credentials == Credentials("user", Secret("password"))
    assert lrp.action == lrps.RunAction("/bin/app", ("-a", "b c"), {"A": "1", "B": "é"})
    assert lrp.metric_tags == {}  # the only one is dynamic
    assert lrp.placement_tags == {"segment", "other"}
    assert "'password'" not in repr(lrp)


@pytest.mark.parametrize(
    ("log_guid", "tag", "expected"),
    [("log", "app", "log"), ("", "app", "app"), ("", "", ""), ("log", "", "log")],
)
def test_the_app_guid_is_the_log_guid_or_else_a_metric_tag(log_guid: str, tag: str, expected: str) -> None:
    message = DesiredLRP(log_guid=log_guid, metric_tags={"app_id": MetricTagValue(static=tag)})

    assert desired_lrp_from_message(message).app_guid == expected


def test_text_that_is_not_utf_8_spoils_only_its_view() -> None:
    odd_tags = (
        b"\x9a\x02\x08\x0a\x01\xff\x12\x03\x0a\x01\xfe" + b"\x9a\x02\x0d\x0a\x06app_id\x12\x03\x0a\x01a"
    )
    odd_domain = b"\x12\x03d\xffd"
    odd_run = b"\x3a\x10\x1a\x0e\x12\x02a\xff\x12\x01b\x22\x05\x0a\x01\xf0\x12\x00"
    raw = odd_domain + odd_run + odd_tags
    lrp = desired_lrp_from_message(DesiredLRP.FromString(raw))

    assert lrp.domain == "d\ufffdd"
    assert lrp.app_guid == "a"
    assert lrp.metric_tags == {"app_id": "a"}
    assert lrp.action == lrps.RunAction("", ("a\ufffd", "b"), {"\ufffd": ""})
    sent = original_definition(lrp.definition).desired_lrp
    assert odd_domain in sent.SerializeToString()
    assert b"a\xff" in sent.SerializeToString()


def test_an_action_tree_is_read_and_the_lowest_number_wins() -> None:
    run = RunAction(path="/x")
    tree = Action(
        timeout_action=TimeoutAction(
            action=Action(
                serial_action=SerialAction(
                    actions=[
                        Action(download_action=DownloadAction(to="/d"), run_action=run),
                        Action(run_action=run, try_action=TryAction(action=Action(run_action=run))),
                        Action(),
                        Action(try_action=TryAction()),
                    ]
                )
            )
        )
    )
    task = task_from_message(Task(task_definition=TaskDefinition(action=tree)))
    program = lrps.RunAction("/x")

    inner = (OtherAction(), program, OtherAction(), WrapperAction((OtherAction(),)))
    assert task.action == WrapperAction((WrapperAction(inner),))
    assert list(lrps.run_actions(task.action)) == [program]
    assert task_from_message(Task()).action is None


def test_a_task_is_read_and_its_unknown_state_is_invalid() -> None:
    definition = TaskDefinition(
        root_fs="docker:///a/b#c", log_guid="l", image_username="u", image_password="p"
    )
    message = Task(
        task_guid="t", domain="d", created_at=5, failed=True, failure_reason="why", task_definition=definition
    )
    message.MergeFromString(b"\x38\x63")  # state 99
    task = task_from_message(message)

    assert (task.task_guid, task.domain, task.created_at, task.log_guid) == ("t", "d", 5, "l")
    assert (task.state, task.failed, task.failure_reason) == (TaskState.INVALID, True, "why")
    assert task.credentials == Credentials("u", Secret("p"))


def test_an_actual_lrp_is_read_and_routable_unless_it_says_otherwise() -> None:
    message = ActualLRP(
        actual_lrp_key=ActualLRPKey(process_guid="p", index=1, domain="d"),
        actual_lrp_instance_key=ActualLRPInstanceKey(instance_guid="i", cell_id="c"),
        state="RUNNING",
        presence=ActualLRP.SUSPECT,
    )
    row = actual_lrp_from_message(message)

    assert (row.process_guid, row.index, row.domain, row.instance_guid, row.cell_id) == (
        "p",
        1,
        "d",
        "i",
        "c",
    )
    assert (row.state, row.presence, row.routable) == (
        lrps.ActualLrpState.RUNNING,
        lrps.Presence.SUSPECT,
        True,
    )
    assert (row.crash_reason, row.placement_error, row.since) == ("", "", 0)
    message.routable = False
    assert not actual_lrp_from_message(message).routable


def test_why_an_instance_does_not_run_is_read_with_the_time() -> None:
    message = ActualLRP(
        state="CRASHED", crash_reason="Exited", placement_error="no room", since=1_700_000_000_500_000_000
    )
    row = actual_lrp_from_message(message)

    assert (row.crash_reason, row.placement_error, row.since) == ("Exited", "no room", 1_700_000_000.5)
    assert "Exited" not in repr(row)


@pytest.mark.parametrize(
    "message", [ActualLRP(), ActualLRP(state="DANCING"), ActualLRP.FromString(b"\x32\x07RUNNING\x50\x09")]
)
def test_an_unknown_state_or_presence_is_not_guessed(message: ActualLRP) -> None:
    with pytest.raises(Invalid, match="unknown-state"):
        actual_lrp_from_message(message)


def test_a_scheduling_info_and_a_cell_are_read() -> None:
    info = scheduling_info_from_message(
        DesiredLRPSchedulingInfo(
            desired_lrp_key=DesiredLRPKey(process_guid="p", domain="d", log_guid="l"),
            instances=3,
            PlacementTags=["segment"],
        )
    )
    providers = [Provider(name="preloaded", properties=["cflinuxfs4"]), Provider(name="docker")]
    cell = cell_from_message(CellPresence(cell_id="c", zone="z", rootfs_providers=providers))

    assert (info.process_guid, info.domain, info.app_guid, info.instances) == ("p", "d", "l", 3)
    assert info.placement_tags == {"segment"}
    assert docker_scheduling_info_from_record(b"") is None
    assert (cell.cell_id, cell.zone, cell.rootfs_schemes) == ("c", "z", ("docker",))


def test_an_update_is_always_present_and_holds_what_is_given() -> None:
    empty = message_from_update(ProcessGuid("p"), update=LrpUpdate())
    zero = message_from_update(ProcessGuid("p"), update=LrpUpdate(instances=0, annotation="", routes={}))

    assert empty.HasField("update")
    assert not empty.update.ListFields()
    assert zero.update.HasField("instances")
    assert zero.update.HasField("annotation")
    assert zero.update.HasField("routes")
    assert not zero.update.HasField("image_username")
