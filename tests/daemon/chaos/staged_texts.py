"""What droplets named before any text of the daemon's, as a chaos run knows it without asking the daemon."""

import time
from collections import Counter
from collections.abc import Callable

from tests.simulators.capi.records import Droplet
from tests.simulators.cloud_controller import CloudController


class StagedTexts:
    """The texts that droplets were staged with, by the GUID of the droplet.

    Args:
        cloud: Whose droplets.
        is_copy: Whether a text names a private registry.

    Attributes:
        written_back: How often somebody else gave droplets such a text while they named a copy.
        changed: When another tool wrote another image into droplets, by `now`.
        now: Tells the time.
    """

    def __init__(self, cloud: CloudController, is_copy: Callable[[str | None], bool]) -> None:
        self.written_back = Counter[str]()
        self.changed: dict[str, float] = {}
        self.now: Callable[[], float] = time.monotonic
        self._cloud, self._is_copy = cloud, is_copy
        self._texts: dict[str, str] = {}

    def look(self) -> None:
        """Remember the texts of droplets that are new."""
        for app in tuple(self._cloud.apps.values()):
            for droplet in app.droplets.values():
                self._remember(droplet)

    def of(self, droplet: Droplet) -> str | None:
        """Give what a droplet was staged with, or what the one that it was copied from was; None if unknown."""
        self._remember(droplet)
        return self._texts.get(droplet.guid)

    def wanted(self, droplet: Droplet | None) -> str | None:
        """Give the text of the source image that an app is to run, whichever registry its droplet names."""
        if droplet is None or not self._is_copy(droplet.image):
            return None if droplet is None else droplet.image
        return self.of(droplet)

    def note_copy(self, droplet: Droplet, source: Droplet) -> None:
        """Remember that a droplet was copied from another one."""
        text = self.of(source)
        if text is not None:
            self._texts[droplet.guid] = text
        if source.guid in self.changed:
            self.changed[droplet.guid] = self.changed[source.guid]

    def note_text_back(self, droplet: Droplet) -> str | None:
        """Count that somebody else is about to write a droplet's own text, and give that."""
        if self._is_copy(droplet.image):
            self.written_back[droplet.guid] += 1
        return self.of(droplet)

    def note_change(self, droplet: Droplet) -> None:
        """Remember that another tool is about to write the name of another image into a droplet."""
        self._remember(droplet)
        self.changed[droplet.guid] = self.now()

    def _remember(self, droplet: Droplet) -> None:
        if droplet.image is not None and not self._is_copy(droplet.image):
            self._texts.setdefault(droplet.guid, droplet.image)
