"""Says in plain words what it means for an app that a migration has ended without success."""

from collections.abc import Mapping

from reconcile.app_events import MigrationEnded
from reconcile.migrations import Goal
from reconcile.reasons import Reason


def failure_text(event: MigrationEnded) -> str | None:
    """Say what a failed migration means; None for a reason that is no failure."""
    if event.goal is Goal.SOURCE and event.reason in _FAILED_RESTORES:
        return _FAILED_RESTORES[event.reason]
    if event.renews_login and event.reason in _FAILURES:
        return _FAILED_RENEWAL
    if event.goal is Goal.CACHE and event.reason is Reason.NOT_PULLED:  # of one that was not turned back
        return _BRIDGE_NOT_PULLED
    return _FAILURES.get(event.reason)


def unchanged_text(reason: Reason, whose: str) -> str:
    """Say what an end means that is no failure.

    Args:
        reason: Of the end.
        whose: Names the instances.
    """
    return _UNCHANGED.get(reason, "{whose} stay as they are for now.").format(whose=whose)


_UNCHANGED: Mapping[Reason, str] = {
    Reason.CHANGED_BY_CLOUD_CONTROLLER: (
        "Cloud Controller started {whose} anew meanwhile, so the platform replaces none for now."
    ),
    Reason.CANCELLED: "replacing {whose} was called off before any of them was stopped; they run as before.",
    Reason.INSTANCES_CHANGED: (
        "the app was changed meanwhile, so {whose} are not replaced for now, and run as before."
    ),
    Reason.NOT_REMOVED: (
        "{whose} could not be stopped, so they run as before; the platform tries again later."
    ),
    Reason.WAITING_UNTIL_STOPPED: (
        "{whose} could not be stopped, so they run on; those that start later are the new ones."
    ),
}
"""Ends that are no failures, and leave something of the app as it was."""

_UNTOUCHED = "The app was not touched and runs as before"
_LATER = "the platform tries again later"

_FAILURES: Mapping[Reason, str] = {
    Reason.BRIDGE_CRASHED: (
        "instances that started from the platform's copy of the image crashed, so the app was not moved "
        f"to it. {_UNTOUCHED}; {_LATER}."
    ),
    Reason.BRIDGE_TIMEOUT: (
        "instances did not start from the platform's copy of the image in time, so the app was not moved to "
        f"it. {_UNTOUCHED}; {_LATER}."
    ),
    Reason.BBS_REFUSED_DEFINITION: (
        f"the platform does not take the app with a copy of its image. {_UNTOUCHED}."
    ),
    Reason.NOT_HEALTHY: (
        "the app runs from the platform's copy of its image, but not all of its instances do. Its own health "
        "check or a lack of room may be why; look at the lines above."
    ),
    Reason.NOT_PULLED: (
        "the platform's registry could not be read. The app was started from the image's own registry again; "
        f"{_LATER}."
    ),
    Reason.COPY_NOT_PULLED: (
        "the platform's copy of the image could not be read. The app was started from the image's own "
        f"registry again; {_LATER}."
    ),
    Reason.NOT_STARTED: (
        "no instance ran from the platform's copy of the image in time. The app was started from the image's "
        f"own registry again; {_LATER}."
    ),
    Reason.IMAGE_NOT_STARTED: (
        "the platform's copy of the image could not be started. The app was started from the image's own "
        f"registry again; {_LATER}."
    ),
    Reason.COPY_CORRUPT: f"the platform's copy of the image is damaged. {_UNTOUCHED}.",
    Reason.PROCESS_EXITED: (
        "the app's process ended by itself after it had started from the platform's copy of the image; look "
        "at the lines of the app."
    ),
    Reason.NO_ROOM: "no machine of the platform has room for the app's instances at the moment.",
    Reason.REVERTED_EXTERNALLY: (
        "something else changed the app three times while it was moved to the platform's copy of its image. "
        f"It stays as it is; {_LATER}."
    ),
}
"""What failed, and what that means for the app."""

_BRIDGE_NOT_PULLED = (
    "the platform's registry could not be read, so the app was not moved to the platform's copy of its "
    f"image. {_UNTOUCHED}; {_LATER}."
)

_STAYS = f"It stays on the platform's copy, which is the same image, and runs as before; {_LATER}"

_FAILED_RESTORES: Mapping[Reason, str] = {
    Reason.BRIDGE_CRASHED: (
        "instances that started from the image's own registry crashed, so the app was not moved there. "
        f"{_STAYS}."
    ),
    Reason.BRIDGE_TIMEOUT: (
        "instances did not start from the image's own registry in time, so the app was not moved there. "
        f"{_STAYS}."
    ),
    Reason.BBS_REFUSED_DEFINITION: f"the platform does not take the app from its own registry. {_STAYS}.",
    Reason.NOT_HEALTHY: (
        "the app runs from the image's own registry, but not all of its instances do. Its own health check, "
        "that registry, or a lack of room may be why; look at the lines above."
    ),
    Reason.PROCESS_EXITED: (
        "the app's process ended by itself after it had started from the image's own registry; look at the "
        "lines of the app."
    ),
    Reason.REVERTED_EXTERNALLY: (
        "something else changed the app three times while it was moved to the image's own registry. It stays "
        f"as it is; {_LATER}."
    ),
}
"""What failed on the way back, and what that means for the app."""

_FAILED_RENEWAL = (
    "instances with the present login for the platform's registry did not run as they should. The app runs "
    f"the same image as before; {_LATER}."
)
