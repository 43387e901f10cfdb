"""What can go wrong in other systems, sorted by what a caller should do about it.

Adapters turn their system's errors into these in one function each; the
system and its own code travel along as fields.
"""

from dataclasses import dataclass


@dataclass(eq=False)
class DockerCacheError(Exception):
    """A call to another system failed.

    Attributes:
        system: "bbs", "registry", "docker", "image", "store" or "config".
        code: That system's own code, such as "MANIFEST_UNKNOWN".
        detail: One line for an operator; never holds credentials.
    """

    system: str
    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.system}: {self.code}: {self.detail}"


@dataclass(eq=False)
class Unavailable(DockerCacheError):
    """Again later, unchanged: timeout, lost connection, 5xx."""

    retry_after: float | None = None
    """Seconds, where the server named a time."""
    may_have_happened: bool = True
    """Whether the request may have taken effect, or may still do so."""


@dataclass(eq=False)
class RateLimited(Unavailable):
    """429: later, and not at once, since each try spends quota."""


class NotFound(DockerCacheError):
    """It is not there: usually an answer, not a failure."""


class Conflict(DockerCacheError):
    """It changed under us: observe again, then plan again."""


class Denied(DockerCacheError):
    """401 or 403: nothing helps until somebody changes credentials."""


class Invalid(DockerCacheError):
    """The request or the data is wrong: record it, do not retry."""
