"""Tells from what the BBS says about a failed start what the failure speaks against."""

from dataclasses import dataclass
from enum import StrEnum


class Blame(StrEnum):
    """What a failed start speaks against."""

    REGISTRY = "registry"
    COPY = "copy"
    IMAGE = "image"
    PROCESS = "process"
    APP = "app"
    ROOM = "room"


@dataclass(frozen=True, slots=True)
class StartFailure:
    """Why an instance or a task could not be started or kept running."""

    blame: Blame
    detail: str

    @property
    def is_pull_failure(self) -> bool:
        """Whether the image could not be pulled or unpacked."""
        return self.blame in {Blame.REGISTRY, Blame.COPY, Blame.IMAGE}


def start_failure(text: str) -> StartFailure | None:
    """Read a `crash_reason`, `rejection_reason` or `failure_reason`; None for an empty one."""
    said = " ".join(text.split())[:256]
    if not said:
        return None
    if said.startswith(("insufficient resources", "found no compatible cell", "unable to communicate")):
        return StartFailure(Blame.ROOM, said)
    if "running image plugin create" in said:
        return StartFailure(Blame.COPY if "unknown" in said else Blame.REGISTRY, said)
    is_process = "failed to create container" in said or "exec failed" in said
    return StartFailure(Blame.PROCESS if is_process else Blame.APP, said)


def placement_failure(text: str) -> StartFailure | None:
    """Read a `placement_error`; None for an empty one."""
    return StartFailure(Blame.ROOM, text) if text else None
