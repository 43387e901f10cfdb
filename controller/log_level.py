"""Keeps the lowest level of the log lines that are written, which may change while the process runs.

Source: lager v3 models.go and cloudfoundry/debugserver server.go, for the levels and their spellings.
"""

from collections.abc import Mapping

LEVELS = ("debug", "info", "error", "fatal")
"""The levels from the lowest to the highest; lager numbers them in this order, from 0."""


def _spellings() -> Mapping[str, str]:
    return {
        form: level
        for number, level in enumerate(LEVELS)
        for form in (level, level.upper(), level[0], level[0].upper(), str(number))
    }


LEVEL_OF = _spellings()
"""Each spelling of a level that the debug servers of Diego's components take, and the level."""


class LogLevel:
    """The lowest level of the lines that are written; it may be set at any time, from any thread.

    Attributes:
        configured: What the process started with, and starts with again.
    """

    def __init__(self, configured: str) -> None:
        self.configured = configured
        self._name, self._number = configured, LEVELS.index(configured)

    @property
    def name(self) -> str:
        """The level that is in use."""
        return self._name

    def set(self, name: str) -> None:
        """Use another level, until the process ends."""
        self._name, self._number = name, LEVELS.index(name)

    def leaves_out(self, name: str) -> bool:
        """Whether lines of a level are not written."""
        return LEVELS.index(name) < self._number
