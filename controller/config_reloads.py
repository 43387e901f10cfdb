"""Remembers whether the config file was taken when the process was last told to read it again."""

import time
from collections.abc import Callable

from reconcile.errors import DockerCacheError


class ConfigReloads:
    """How the last reading of the config file has ended.

    A config that is taken begins a new process in the place of this one, so only a refusal is seen here.

    Attributes:
        error: Why the file was refused, one line for each key; empty when it was not.

    Args:
        read_config: Reads the file, and raises when it cannot be used.
        clock: Gives UTC seconds since 1970.
    """

    def __init__(self, read_config: Callable[[], object], clock: Callable[[], float] = time.time) -> None:
        self._read_config = read_config
        self.error = ""
        self.taken_at = clock()
        """When the config was read that the process runs with."""

    def read(self) -> None:
        """Read the file; may block, and is called in another thread.

        Raises:
            DockerCacheError: It cannot be used; the process stays as it is.
        """
        try:
            self._read_config()
        except DockerCacheError as error:
            self.error = str(error)
            raise
        self.error = ""


def no_reloads() -> ConfigReloads:
    """Return what a process has that never reads its config again."""
    return ConfigReloads(lambda: None)
