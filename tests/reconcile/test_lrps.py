"""Versions of records, trees of actions, and secrets that stay secret."""

from collections.abc import Callable

import pytest

from reconcile.lrps import (
    Action,
    AppGuid,
    Credentials,
    DesiredLrp,
    ModificationTag,
    OtherAction,
    ProcessGuid,
    RunAction,
    Secret,
    Task,
    TaskGuid,
    TaskState,
    WrapperAction,
    run_actions,
)
from reconcile.references import Rootfs

MARKER = "s3cr3t-marker"
LOGIN = Credentials("user", Secret(MARKER))
RUN = RunAction("/bin/app", (f"-password={MARKER}",), {"TOKEN": MARKER})


ONE, TWO, THREE = (RunAction(name) for name in ("one", "two", "three"))


@pytest.mark.parametrize(
    ("action", "programs"),
    [
        (None, []),
        (OtherAction(), []),
        (WrapperAction(), []),
        (ONE, [ONE]),
        (WrapperAction((OtherAction(), WrapperAction((ONE,)))), [ONE]),
        (
            WrapperAction((ONE, WrapperAction((WrapperAction((TWO,)), OtherAction())), THREE)),
            [ONE, TWO, THREE],
        ),
    ],
)
def test_the_programs_of_an_action_are_found_in_order(
    action: Action | None, programs: list[RunAction]
) -> None:
    assert list(run_actions(action)) == programs


def holders() -> list[object]:
    tag = ModificationTag("e", 1)
    rootfs = Rootfs("docker:///library/busybox")
    return [
        LOGIN.password,
        LOGIN,
        RUN,
        WrapperAction((RUN,)),
        Task(
            TaskGuid("t"),
            "cf-app-staging",
            TaskState.RUNNING,
            0,
            rootfs,
            "app",
            WrapperAction((RUN,)),
            credentials=LOGIN,
        ),
        DesiredLrp(
            process_guid=ProcessGuid("p"),
            domain="cf-apps",
            app_guid=AppGuid("app"),
            rootfs=rootfs,
            instances=1,
            tag=tag,
            definition=MARKER.encode(),
            action=RUN,
            credentials=LOGIN,
        ),
    ]


@pytest.mark.parametrize("show", [str, repr, format, "{!r}".format, lambda value: f"{[value]}"])
@pytest.mark.parametrize("holder", holders(), ids=lambda holder: type(holder).__name__)
def test_a_secret_is_never_shown(holder: object, show: Callable[[object], str]) -> None:
    assert MARKER not in show(holder)


def test_a_secret_compares_by_its_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert f"{Secret('a')}" == "***"
