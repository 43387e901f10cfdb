"""Keeps a lock over a restart on SIGHUP, by which a process replaces its program with `execv`.

The run ID of the lock's owner is left in an environment variable, together with the process ID, which `execv`
keeps. A child or a later process that inherits the variable has another process ID, so it ignores the run ID.
"""

import os
from collections.abc import MutableMapping

_VARIABLE = "DOCKER_CACHE_LOCK"


def hand_on(run_id: str, environ: MutableMapping[str, str]) -> None:
    """Leave the run ID of the lock's owner to the next program of this process."""
    environ[_VARIABLE] = f"{os.getpid()}:{run_id}"


def take_over(environ: MutableMapping[str, str]) -> str | None:
    """Remove and return the run ID that was left to this process; None where there is none."""
    pid, _, run_id = environ.pop(_VARIABLE, "").partition(":")
    return run_id if pid == str(os.getpid()) and run_id else None
