"""Words the lines that app developers read in their app's log about its image.

They are read beside those of staging and of cells, by people who do not run the platform: they say what
happens to the app, why, and what it means. No text of another system is in them.

Source: cloudfoundry/diego-release docs on `emit_progress` and cells' own lines, for tone and source types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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
from reconcile.foreign_text import cut
from reconcile.lrps import AppGuid
from reconcile.migration_ends import failure_text, unchanged_text
from reconcile.migrations import Goal
from reconcile.plain_causes import why
from reconcile.reasons import Reason

APP_TAGS = frozenset({"app_id", "app_name", "space_id", "space_name", "organization_id", "organization_name"})
"""The metric tags of a task or an LRP that say whose log a line is in."""

PROCESS_TAGS = frozenset({"process_id", "process_type"})
"""The metric tags of an LRP that say which process of its app a line is about."""

_MAX_NAME = 300
"""Characters of an image reference or a process type that are shown."""


class SourceType(StrEnum):
    """What stands before a line in the app's log."""

    STAGING = "STG"
    """The mark of a staging: `cf push` shows such lines as well."""
    CELL = "CELL"
    """The mark of what cells say of instances."""


@dataclass(frozen=True, slots=True)
class AppLogLine:
    """One line in the log of an app.

    Attributes:
        at: Nanoseconds since 1970.
        tags: Names and GUIDs of the app, its space and its organization, as far as they are known.
        is_error: Whether it is shown as what programs write to their error output.
    """

    app_guid: AppGuid
    source_type: SourceType
    text: str
    at: int
    is_error: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ComponentCounter:
    """A count of this program, for the platform's operators.

    Attributes:
        at: Nanoseconds since 1970.
        total: Since this process began.
    """

    name: str
    total: int
    at: int


@dataclass(frozen=True, slots=True)
class LineText:
    """What a line says."""

    source_type: SourceType
    text: str
    is_error: bool = False


def text_of(event: AppEvent) -> LineText | None:
    """Word an event; None where it means nothing to a developer."""
    match event:
        case CopyBegun(source):
            return _staging(f"Image cache: copying {_name(source)} to the platform's registry.")
        case CopyProgressed(source, done, total):
            return _staging(
                f"Image cache: copied {_size(done)} of {_size(total)} of {_name(source)}"
                f" ({100 * done // total if total else 0} %)."
            )
        case CopyPostponed(source, failure, retry_after, is_private):
            cause = why(failure, is_private=is_private)
            return _staging(
                f"Image cache: {_name(source)} is not copied yet: {cause}. The next attempt is in "
                f"{_duration(retry_after)}; nothing waits for it."
            )
        case ImageCached():
            return _staging(_cached(event))
        case CopyFailed(source, failure, is_private):
            cause = why(failure, is_private=is_private)
            return LineText(
                SourceType.STAGING,
                f"Image cache: {_name(source)} was not copied: {cause}. Without a copy the app runs from the "
                "image's own registry, as if there were no cache.",
                is_error=True,
            )
        case MigrationBegun():
            return LineText(SourceType.CELL, _begun(event))
        case MigrationEnded():
            return _ended(event)
        case DropletChanged(image, is_copy):
            what = ", the platform's copy of its image" if is_copy else " again"
            text = (
                f"Image cache: from now on instances and tasks of this app start from {_name(image)}{what}."
            )
            return LineText(SourceType.CELL, text)


def _staging(text: str) -> LineText:
    return LineText(SourceType.STAGING, text)


def _cached(event: ImageCached) -> str:
    source, copy = _name(event.source), _name(event.copy)
    if event.transferred is None:
        return f"Image cache: {source} is cached already as {copy}; nothing had to be copied."
    kept = max(0, event.size - event.transferred)
    reused = f"; {_size(kept)} of its layers were there already" if kept * 100 >= event.size else ""
    moved = f"{_size(event.transferred)} copied in {_duration(event.seconds)}"
    return f"Image cache: {source} is cached as {copy} ({_size(event.size)}: {moved}{reused})."


def _begun(event: MigrationBegun) -> str:
    whose = _whose(event.process_type)
    if event.renews_login:
        what = f"{whose} are replaced by ones with the present login for the platform's registry"
    elif event.goal is Goal.CACHE:
        what = f"{whose} are replaced by ones that run the same image from the platform's own registry"
    else:
        back = _BACK.get(event.reason, "the platform wants it there")
        what = f"{whose} are replaced by ones that run from the image's own registry, since {back}"
    how = (
        "A temporary second set of instances serves meanwhile, and its lines are in this log, too"
        if event.has_bridge
        else "None of them runs yet, so the app is not interrupted"
    )
    label = "Image" if event.goal is Goal.CACHE else "Copy"
    return f"Image cache: {what}. {how}. {label}: {_name(event.image)}."


_BACK: Mapping[Reason, str] = {
    Reason.RESTORE_REQUESTED: "the platform's operators asked for it",
    Reason.REGISTRY_UNREACHABLE: "the platform's registry does not answer",
    Reason.COPY_LOST: "the platform's copy of the image is incomplete",
    Reason.NOT_PULLED: "the platform's registry could not be read",
    Reason.COPY_NOT_PULLED: "the platform's copy of the image could not be read",
    Reason.NOT_STARTED: "no instance ran from the platform's copy of the image in time",
    Reason.RUNS_FROM_FORMER_REGISTRY: "the registry that the platform had before could not be read",
}


def _ended(event: MigrationEnded) -> LineText | None:
    whose, reason = _whose(event.process_type), event.reason
    if reason is Reason.MIGRATED and event.renews_login:
        return _success(f"{whose} have the present login for the platform's registry", event)
    if reason is Reason.MIGRATED:
        return _success(f"{whose} run from {_name(event.copy)}, a copy of the same image", event)
    if reason in {Reason.RESTORED, Reason.FELL_BACK_TO_SOURCE}:
        return _success(f"{whose} run from the image's own registry again", event)
    if reason in _UNREPORTED:
        return None
    failure = failure_text(event)
    text = unchanged_text(reason, whose) if failure is None else failure
    return LineText(SourceType.CELL, f"Image cache: {text}", is_error=failure is not None)


def _success(text: str, event: MigrationEnded) -> LineText:
    return LineText(SourceType.CELL, f"Image cache: {text} (after {_duration(event.seconds)}).")


_UNREPORTED = frozenset({Reason.REMOVED_BY_OWNER, Reason.NOT_DESIRED, Reason.NO_INSTANCES})
"""Ends that the app's owner has brought about."""


def _whose(process_type: str) -> str:
    return f"instances of process {_name(process_type)}" if process_type else "the app's instances"


def _name(text: str) -> str:
    shown = text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)
    return cut(shown, _MAX_NAME)


def _size(count: int) -> str:
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:.1f} MB" if count < 1_000_000_000 else f"{count / 1_000_000_000:.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
