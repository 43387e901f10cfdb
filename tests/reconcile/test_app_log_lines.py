"""The words of the lines: each says what happens to the app, why, and what it means."""

import dataclasses
import re

import pytest

from reconcile.app_events import (
    AppEvent,
    CopyBegun,
    CopyFailed,
    CopyPostponed,
    CopyProgressed,
    DropletChanged,
    ImageCached,
    MigrationBegun,
    MigrationEnded,
)
from reconcile.app_log_lines import LineText, SourceType, text_of
from reconcile.migrations import Goal
from reconcile.protocol import FAILURES
from reconcile.reasons import AppState, Reason

SOURCE = "registry.example/team/web:1"
COPY = "cache.example:8080/0d6c0b8a-51c5-4b2c-8f2e-0f0f5f2a9b11:latest"
BEGUN = MigrationBegun(SOURCE, "", Goal.CACHE, has_bridge=True, reason=Reason.RUNS_FROM_SOURCE)
ENDED = MigrationEnded(SOURCE, COPY, "", Goal.CACHE, Reason.MIGRATED, 42.4)

STAGING_LINES: list[tuple[AppEvent, str]] = [
    (CopyBegun(SOURCE), f"copying {SOURCE} to the platform's registry."),
    (
        CopyProgressed(SOURCE, 120_000_000, 1_500_000_000),
        f"copied 120.0 MB of 1.50 GB of {SOURCE} (8 %).",
    ),
    (
        CopyPostponed(SOURCE, "TOOMANYREQUESTS: registry.example", 3700.0),
        (
            f"{SOURCE} is not copied yet: its registry limits how often images may be pulled. The next attempt is "
            "in 1 h 1 min; nothing waits for it."
        ),
    ),
    (
        ImageCached(SOURCE, COPY, 73_400_320, 3_400_320, 4.21),
        (
            f"{SOURCE} is cached as {COPY} (73.4 MB: 3.4 MB copied in 4.2 s; 70.0 MB of its layers were there "
            "already)."
        ),
    ),
    (
        ImageCached(SOURCE, COPY, 73_400_320, 73_400_320, 64.2),
        f"{SOURCE} is cached as {COPY} (73.4 MB: 73.4 MB copied in 1 min 4 s).",
    ),
    (
        ImageCached(SOURCE, COPY, 73_400_320, None, 0.2),
        f"{SOURCE} is cached already as {COPY}; nothing had to be copied.",
    ),
]


@pytest.mark.parametrize(("event", "text"), STAGING_LINES)
def test_what_is_told_while_an_app_is_staged(event: AppEvent, text: str) -> None:
    assert text_of(event) == LineText(SourceType.STAGING, f"Image cache: {text}")


def test_a_failed_copy_says_what_it_means_and_nothing_of_its_detail() -> None:
    line = text_of(CopyFailed(SOURCE, "UNAUTHORIZED: Bearer realm, password hunter2"))

    assert line == LineText(
        SourceType.STAGING,
        f"Image cache: {SOURCE} was not copied: its registry refuses the login, or asks for one: check the "
        "image's name and the app's login for it. Without a copy the app runs from the image's own registry, as "
        "if there were no cache.",
        is_error=True,
    )


def test_a_refusal_of_the_platform_s_registry_is_not_told_as_one_of_the_app_s_login() -> None:
    line = text_of(CopyFailed(SOURCE, f"UNAUTHORIZED: {COPY} (start upload): denied", is_private=True))

    assert line is not None
    assert "the platform's registry cannot take it at the moment" in line.text
    assert "login" not in line.text


def test_a_few_bytes_that_were_there_already_are_not_worth_a_word() -> None:
    line = text_of(ImageCached(SOURCE, COPY, 73_400_320, 73_399_000, 4.21))

    assert line is not None
    assert "already" not in line.text


CELL_LINES: list[tuple[AppEvent, str]] = [
    (
        BEGUN,
        (
            "the app's instances are replaced by ones that run the same image from the platform's own registry. A "
            "temporary second set of instances serves meanwhile, and its lines are in this log, too. Image: "
            f"{SOURCE}."
        ),
    ),
    (
        dataclasses.replace(BEGUN, process_type="worker", has_bridge=False),
        (
            "instances of process worker are replaced by ones that run the same image from the platform's own "
            f"registry. None of them runs yet, so the app is not interrupted. Image: {SOURCE}."
        ),
    ),
    (
        dataclasses.replace(BEGUN, goal=Goal.SOURCE, reason=Reason.RESTORE_REQUESTED),
        (
            "the app's instances are replaced by ones that run from the image's own registry, since the platform's "
            "operators asked for it. A temporary second set of instances serves meanwhile, and its lines are in "
            f"this log, too. Copy: {SOURCE}."
        ),
    ),
    (ENDED, f"the app's instances run from {COPY}, a copy of the same image (after 42 s)."),
    (
        dataclasses.replace(ENDED, goal=Goal.SOURCE, reason=Reason.RESTORED),
        "the app's instances run from the image's own registry again (after 42 s).",
    ),
    (
        dataclasses.replace(ENDED, renews_login=True),
        "the app's instances have the present login for the platform's registry (after 42 s).",
    ),
    (
        DropletChanged(COPY, is_copy=True),
        f"from now on instances and tasks of this app start from {COPY}, the platform's copy of its image.",
    ),
    (
        DropletChanged(SOURCE, is_copy=False),
        f"from now on instances and tasks of this app start from {SOURCE} again.",
    ),
]


@pytest.mark.parametrize(("event", "text"), CELL_LINES)
def test_what_is_told_of_instances(event: AppEvent, text: str) -> None:
    assert text_of(event) == LineText(SourceType.CELL, f"Image cache: {text}")


@pytest.mark.parametrize("reason", [Reason.BRIDGE_CRASHED, Reason.BRIDGE_TIMEOUT])
def test_a_failed_way_back_says_that_the_app_stays_on_its_copy(reason: Reason) -> None:
    line = text_of(dataclasses.replace(ENDED, goal=Goal.SOURCE, reason=reason))

    assert line is not None
    assert line.is_error
    assert "so the app was not moved there. It stays on the platform's copy" in line.text


@pytest.mark.parametrize("reason", [Reason.NOT_PULLED, Reason.COPY_NOT_PULLED, Reason.NOT_STARTED])
def test_an_app_that_is_brought_back_reads_where_it_runs(reason: Reason) -> None:
    begun = text_of(dataclasses.replace(BEGUN, goal=Goal.SOURCE, reason=reason))
    ended = text_of(dataclasses.replace(ENDED, goal=Goal.SOURCE, reason=reason))

    assert begun is not None
    assert ended is not None
    assert "since the platform wants it there" not in begun.text
    assert "The app was started from the image's own registry again" in ended.text


def test_an_app_whose_bridge_could_not_be_pulled_reads_that_it_runs_as_before() -> None:
    line = text_of(dataclasses.replace(ENDED, reason=Reason.NOT_PULLED))

    assert line == LineText(
        SourceType.CELL,
        "Image cache: the platform's registry could not be read, so the app was not moved to the platform's "
        "copy of its image. The app was not touched and runs as before; the platform tries again later.",
        is_error=True,
    )


@pytest.mark.parametrize("reason", Reason)
def test_a_way_back_that_ends_is_never_told_as_a_way_to_the_copy(reason: Reason) -> None:
    line = text_of(dataclasses.replace(ENDED, goal=Goal.SOURCE, reason=reason))

    assert line is None or not re.search(
        "moved to (it|the platform's copy)|had started from the platform's copy", line.text
    )


def test_an_app_that_leaves_a_registry_of_before_reads_why() -> None:
    line = text_of(dataclasses.replace(BEGUN, goal=Goal.SOURCE, reason=Reason.RUNS_FROM_FORMER_REGISTRY))

    assert line is not None
    assert "since the registry that the platform had before could not be read." in line.text


def test_a_login_that_could_not_be_renewed_is_not_told_as_a_move() -> None:
    line = text_of(dataclasses.replace(ENDED, renews_login=True, reason=Reason.BRIDGE_CRASHED))

    assert line is not None
    assert line.is_error
    assert "moved" not in line.text


@pytest.mark.parametrize("reason", sorted(FAILURES))
def test_every_failed_migration_says_what_it_means_for_the_app(reason: Reason) -> None:
    line = text_of(dataclasses.replace(ENDED, reason=reason))

    assert line is not None
    assert line.is_error
    assert str(reason) not in line.text
    assert len(line.text) > 80


@pytest.mark.parametrize("reason", Reason)
def test_every_end_of_a_migration_can_be_told(reason: Reason) -> None:
    line = text_of(dataclasses.replace(ENDED, reason=reason))

    if line is not None:
        assert line.text.startswith("Image cache: ")
        assert line.text.endswith(".")
        assert "-" not in reason or reason not in line.text, "an identifier says nothing to a developer"


def test_an_app_that_was_started_anew_meanwhile_reads_that_nothing_more_follows() -> None:
    """It has read that its instances are being replaced."""
    line = text_of(
        dataclasses.replace(ENDED, process_type="worker", reason=Reason.CHANGED_BY_CLOUD_CONTROLLER)
    )

    assert line == LineText(
        SourceType.CELL,
        "Image cache: Cloud Controller started instances of process worker anew meanwhile, so the platform "
        "replaces none for now.",
    )


def test_what_an_owner_has_brought_about_is_not_told_to_them() -> None:
    assert text_of(dataclasses.replace(ENDED, reason=Reason.REMOVED_BY_OWNER)) is None


def test_a_name_of_an_image_makes_no_second_line_and_is_not_endless() -> None:
    line = text_of(CopyBegun("registry.example/" + "a" * 1000 + "\n[APP/0] OUT forged"))

    assert line is not None
    assert line.text.isprintable()
    assert len(line.text) < 400


def test_the_states_of_ends_are_those_that_are_known() -> None:
    """A new reason of a failed LRP is looked at when it is added: most are worth a line of their own."""
    assert {each.state for each in FAILURES} == {AppState.FAILED}
