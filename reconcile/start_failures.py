"""Tells from what the BBS says about a failed start what the failure speaks against.

The image plugin of a cell reports a failed pull as a chain of texts, each of which names the step around the
next one. The first part of the chain that decides counts: what follows it may be a registry's own message.
Texts come from other systems: they are shortened before anything else.

Source: cloudfoundry/executor depot/containerstore/storenode.go, guardian imageplugin/image_plugin.go,
grootfs groot/creator.go, base_image_puller and fetcher/layer_fetcher; containers/image docker/errors.go and
docker/docker_client.go; cloudfoundry/auction auctiontypes/types.go. Most texts were observed on a cell.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import dropwhile

from reconcile.foreign_text import clean

MAX_TEXT = 2048
"""Characters that are looked at; the BBS stores 1024 bytes, and its events hold the whole text."""
_MAX_PARTS = 48


class Blame(StrEnum):
    """What a failed start speaks against."""

    REGISTRY = "registry"
    """Cells cannot reach it, do not trust it or cannot log in to it, or it fails."""
    COPY = "copy"
    """The registry lacks something that the image consists of, or sends something else."""
    IMAGE = "image"
    """Cells cannot run such an image, wherever they pull it from."""
    PROCESS = "process"
    """The image was pulled, and its container or the process in it could not be started."""
    APP = "app"
    """The process was started, and ended by itself or was not healthy."""
    ROOM = "room"
    """No cell has room for it, or none of them fits."""


_PULLS = frozenset({Blame.REGISTRY, Blame.COPY, Blame.IMAGE})


@dataclass(frozen=True, slots=True)
class StartFailure:
    """Why an instance or a task could not be started or kept running.

    Attributes:
        detail: One line for people, shortened, without credentials.
    """

    blame: Blame
    detail: str

    @property
    def is_pull_failure(self) -> bool:
        """Whether the image could not be pulled or unpacked."""
        return self.blame in _PULLS


def start_failure(text: str) -> StartFailure | None:
    """Read a `crash_reason`, `rejection_reason` or `failure_reason`; None for an empty one.

    An unknown text about a pull speaks against the copy, and every other unknown text against the app.
    """
    parts = _parts(text[:MAX_TEXT])
    if not parts:
        return None
    said = ": ".join(parts)
    pull = _PULL.match(said)
    if pull is None:
        return StartFailure(_blame_without_pull(said), clean(said))
    parts = _parts(said[pull.end() :])
    informative = list(dropwhile(_SAYS_NOTHING.__contains__, parts))
    return StartFailure(_blame_of_pull(parts), clean(": ".join(informative) or said))


def placement_failure(text: str) -> StartFailure | None:
    """Read a `placement_error`; None for an empty one."""
    said = ": ".join(_parts(text[:MAX_TEXT]))
    return StartFailure(Blame.ROOM, clean(said)) if said else None


def _parts(text: str) -> list[str]:
    # The exit status of the cell's own command stands last, in a line of its own, and says nothing.
    parts = [_printable(part) for line in text.splitlines() for part in line.split(": ")]
    said = [part for part in parts if part]
    return said[:-1] if len(said) > 1 and _EXIT_STATUS.fullmatch(said[-1]) else said


def _printable(part: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in part).split())


def _blame_of_pull(parts: list[str]) -> Blame:
    if parts and parts[-1].endswith("no space left on device"):
        return Blame.ROOM
    for start in range(min(len(parts), _MAX_PARTS)):
        rest = ": ".join(parts[start:])
        for pattern, blame in _PULL_RULES:
            if pattern.match(rest):
                return blame
    return Blame.COPY


def _blame_without_pull(said: str) -> Blame:
    if _NO_ROOM.match(said):
        return Blame.ROOM
    if _ENDED.match(said):
        return Blame.APP
    return Blame.PROCESS if _NOT_STARTED.search(said) else Blame.APP


def _any_of(patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns.split("\n")[1:-1]), re.IGNORECASE)


_SAYS_NOTHING = frozenset({"fetching image reference", "creating image", "creating image source"})
_EXIT_STATUS = re.compile(r"(?:: )?exit status \d{1,3}")
_PULL = re.compile(
    r"(?:failed to (?:create|initialize) container: )?running image plugin create(?:: |$)"
    r"|failed to (?:create|initialize) container: "
    r"(?=pulling |fetching |reading manifest |creating image|pinging container registry )"
)
_NO_ROOM = _any_of("""
insufficient resources
found no compatible cell
unable to communicate to compatible cells
waiting to start instance
""")
_ENDED = re.compile(r"(?:[^:]{1,64}: )?(?:Exited with status \d|Instance (?:never|became un)healthy)")
_NOT_STARTED = re.compile(
    r"^failed to (?:create|initialize) container\b"
    r"|(?:^|: )(?:exec failed|runc run|unable to start container process|unable to find user)\b"
)
_STATUS = (
    r"(?:received unexpected HTTP status: |StatusCode: |error parsing HTTP |fetching blob "
    r"|invalid status code from registry )"
)
_PULL_RULES: tuple[tuple[re.Pattern[str], Blame], ...] = (
    (re.compile(r"making image: .*disk limit is smaller than volume size"), Blame.IMAGE),
    (_any_of(r"""
making image
acquiring lock
checking id exists
creating volume
"""), Blame.PROCESS),
    (re.compile(r"expected blob to be of type .*: (?:unexpected )?EOF"), Blame.COPY),
    (_any_of(r"""
no FSLayers
choosing image instance
no image found in
diffID digest mismatch
layers exceed disk quota
uncompressed layer size exceeds quota
disk limit is smaller
disk quota exceeded
expected blob to be of type
unpacking\b
failed to unpack
handl(?:e|ing) opaque whiteouts
invalid unpack output
invalid base image
base directory not found
converting V1 schema
unsupported (?:manifest|schema|media|mime|image)
unknown media type
could not find a supported
(?:error|failed) fetching external blob
panic
runtime error
"""), Blame.IMAGE),
    (_any_of(r"""
pinging container registry
This registry is insecure
authorization failed
docker://\S+ does not exist or you do not have permissions
authentication required
unauthorized
denied
requested access to the resource is denied
unable to retrieve auth token
invalid username/password
requesting bearer token
decoding bearer token
missing realm
getting username and password
no basic auth
too ?many ?requests
can't talk to a V1
registry \S+ is blocked
(?:Get|Head|Post|Put) "
dial\b
lookup\b
read tcp
write tcp
net/http
http2
stream error
tls\b
remote error
x509
server gave HTTP response
no such host
i/o timeout
context (?:deadline exceeded|canceled)
connection re(?:set|fused)
broken pipe
EOF$
invalid character '<'
(?:service )?unavailable
internal server error
"""), Blame.REGISTRY),
    (re.compile(rf"{_STATUS}(?:404|410)\b"), Blame.COPY),
    (re.compile(rf"{_STATUS}\d{{3}}\b"), Blame.REGISTRY),
    (_any_of(r"""
(?:manifest|name|blob) unknown
unknown blob
not found
manifest invalid
unexpected EOF
layer size is
(?:layerID )?digest mismatch
gzip
flate
invalid c(?:haracter|hecksum)
unexpected end of JSON
"""), Blame.COPY),
)  # fmt: skip
"""What a failed pull says, from any part of the chain on; the first part that a rule fits decides."""
