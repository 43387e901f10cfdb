"""Checks that droplets name copies that are there, and lose nothing of what they were staged with.

Whatever the daemon writes is looked at when it takes effect; what droplets name and what the daemon says of them is
looked at again and again. A copy that is lost may be unknown to the daemon until its turn comes: what droplets name
then counts in the end.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reconcile.droplets import DropletPhase
from reconcile.reasons import Reason
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.stored_copies import MANIFEST, find_missing
from tests.simulators.capi.records import Droplet, DropletState
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import InvalidDockerUri, rootfs_from_image

LONGEST_TEXT = 255
WRITTEN_WITHIN = 10.0
"""Seconds from the daemon's last look, at a droplet and at its copy, until what it writes takes effect."""
MOST_ROUNDS = 3
"""How often a droplet is written back by others until it is left alone."""

Row = Mapping[str, Any]


class DropletWatch:
    """Watches the droplets of a chaos run from its beginning.

    Args:
        scene: Where.
        reaches_all: Whether all droplets must name their copies in the end, as far as is known.
        now: Tells the time, by the clock of the scene.
    """

    def __init__(
        self, scene: Scene, *, reaches_all: bool = True, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._scene, self._texts, self._reaches_all = scene, scene.texts, reaches_all
        self._cloud, self._now = scene.env.cloud, now
        self._reported: set[tuple[str, str]] = set()
        self._written: set[str] = set()
        self._cloud.changing.append(self._see_change)

    def look(self) -> None:
        """Look at what all droplets name now."""
        self._texts.look()
        for app, droplet in self._staged():
            image = droplet.image or ""
            missing = self._missing(image)
            if missing and _repository_of(image) not in self._scene.lost_copies:
                self._report(droplet, f"droplet {_name(app, droplet)} names {image}, which lacks {missing}")

    def check(self, rows: Iterable[Row]) -> None:
        """Compare what the daemon says that droplets named before with what they were staged with."""
        for row in rows:
            droplet = self._cloud.find_droplet(row["droplet_guid"])
            if droplet is None or not row["written_image"]:
                continue
            original, staged = row["original_image"], self._texts.of(droplet)
            what = f"the original text of droplet {droplet.guid} is {original} by its record"
            if self._scene.is_copy(original):
                self._report(droplet, f"{what}, a URL of ours")
            elif staged is not None and original != staged and droplet.guid not in self._texts.changed:
                self._report(droplet, f"{what}, and it was staged with {staged}")

    def unrest(self) -> list[str]:
        """Say which droplets name a copy that is not there, however it was lost."""
        return [
            f"droplet {_name(app, droplet)} names {droplet.image}, which lacks {missing}"
            for app, droplet in self._staged()
            if (missing := self._missing(droplet.image or ""))
        ]

    def find_unpatched(self, rows: Iterable[Row]) -> list[str]:
        """Say which droplets name their copies, or do not, other than they should when nothing goes wrong."""
        known, found = {row["droplet_guid"]: row for row in rows}, list[str]()
        for app, droplet in self._staged():
            row = known.get(droplet.guid)
            reason = "" if row is None else row["reason"]
            is_pinned = row is not None and _is_of_pinned_app(row)
            if self._scene.is_copy(droplet.image):
                if row is None or is_pinned or reason != Reason.DROPLET_PATCHED:
                    found.append(f"droplet {_name(app, droplet)} names {droplet.image}, and is {reason!r}")
            elif self._reaches_all and not is_pinned and not self._is_left_to_others(droplet, reason):
                found.append(f"droplet {_name(app, droplet)} names {droplet.image}, and is {reason!r}")
        return found

    def find_half_restored(self, rows: Iterable[Row]) -> set[str]:
        """Name the apps whose droplets were to be restored, and name copies still: a request has failed."""
        waiting = {row["droplet_guid"] for row in rows if row["phase"] == DropletPhase.RESTORING}
        return {
            app.owner.app_name
            for app, droplet in self._staged()
            if droplet.guid in waiting and self._scene.is_copy(droplet.image)
        }

    def find_unrestored(self) -> list[str]:
        """Say which droplets have not what they were staged with, after all were restored."""
        return [
            f"droplet {_name(app, droplet)} names {droplet.image}, and was staged with {staged}"
            for app, droplet in self._staged()
            if (staged := self._texts.of(droplet)) != droplet.image
            and (droplet.guid not in self._texts.changed or self._scene.is_copy(droplet.image))
        ]

    def _is_left_to_others(self, droplet: Droplet, reason: str) -> bool:
        """Whether others have changed a droplet so that the daemon is to leave it to them."""
        if reason == Reason.REVERTED_EXTERNALLY:
            return self._texts.written_back[droplet.guid] >= MOST_ROUNDS
        return droplet.guid in self._texts.changed

    def _see_change(self, droplet: Droplet, image: str | None) -> None:
        scene, staged = self._scene, self._texts.of(droplet)
        is_copy, is_of_other = scene.is_copy(image), self._is_of_other_tool(droplet)
        scene.happened["droplets given a copy" if is_copy else "droplets given their image back"] += 1
        what = f"droplet {droplet.guid} is to name {image}"
        if not _is_taken(image):
            self._report(droplet, f"{what}, of which Cloud Controller makes no rootfs")
        elif is_of_other:
            self._report(droplet, f"{what} in the place of {droplet.image}, which another tool wrote")
        elif is_copy:
            self._check_copy(droplet, image or "", what)
        elif image != staged and droplet.guid not in self._texts.changed:
            self._report(droplet, f"{what}, and it was staged with {staged}")
        if is_copy:
            self._written.add(droplet.guid)

    def _is_of_other_tool(self, droplet: Droplet) -> bool:
        """Whether a droplet that the daemon knows has the text of another tool for long enough to be seen."""
        changed_at = self._texts.changed.get(droplet.guid)
        is_seen = changed_at is not None and self._now() - changed_at > WRITTEN_WITHIN
        is_other = not self._scene.is_copy(droplet.image) and droplet.image != self._texts.of(droplet)
        return is_seen and is_other and droplet.guid in self._written

    def _check_copy(self, droplet: Droplet, image: str, what: str) -> None:
        missing = self._missing(image)
        lost_at = self._scene.lost_copies.get(_repository_of(image))
        if missing and lost_at is None:
            self._report(droplet, f"{what}, which lacks {missing}")
        elif missing == MANIFEST and lost_at is not None and self._now() - lost_at > WRITTEN_WITHIN:
            self._report(droplet, f"{what}, which was lost {self._now() - lost_at:.0f} s ago")

    def _missing(self, image: str) -> str:
        return find_missing((self._scene.env.cache, *self._scene.former_registries), image)

    def _staged(self) -> list[tuple[App, Droplet]]:
        return [
            (app, droplet)
            for app in self._cloud.apps.values()
            for droplet in app.droplets.values()
            if droplet.state is DropletState.STAGED
        ]

    def _report(self, droplet: Droplet, what: str) -> None:
        key = (droplet.guid, what)
        if key not in self._reported:
            self._reported.add(key)
            self._scene.invariants.violate(what, "")


def _is_of_pinned_app(row: Row) -> bool:
    """Whether a droplet has its text for a pin; one that was given it back for that is not looked at again."""
    given_back = row["reason"] == Reason.RESTORED and str(row["detail"]).startswith(Reason.PINNED_TO_SOURCE)
    return given_back or bool(row["reason"] == Reason.PINNED_TO_SOURCE)


def _name(app: App, droplet: Droplet) -> str:
    return f"{droplet.guid} of {app.owner.app_name}"


def _repository_of(image: str) -> str:
    return image.partition("/")[2].partition(":")[0]


def _is_taken(image: str | None) -> bool:
    """Whether Cloud Controller makes a rootfs of a text."""
    if image is None or len(image) > LONGEST_TEXT:
        return False
    try:
        rootfs_from_image(image)
    except InvalidDockerUri:
        return False
    return True
