"""Hands a lock on to the process that begins anew in this one's place, which owns it then.

The process stays the same one for the system, with the same ID. So nobody else's process, nor a later one,
takes the lock for its own because it has inherited the variable.
"""

import os
from collections.abc import MutableMapping

_VARIABLE = "DOCKER_CACHE_LOCK"


def hand_on(run_id: str, environ: MutableMapping[str, str]) -> None:
    """Leave the run ID of the lock's owner to the next program of this process."""
    environ[_VARIABLE] = f"{os.getpid()}:{run_id}"


def take_over(environ: MutableMapping[str, str]) -> str | None:
    """Return the run ID that was left to this process, once; None where there is none."""
    pid, _, run_id = environ.pop(_VARIABLE, "").partition(":")
    return run_id if pid == str(os.getpid()) and run_id else None
