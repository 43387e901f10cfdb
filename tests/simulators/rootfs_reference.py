"""Which image a rootfs names for a cell.

Source: guardian imageplugin/default_command_creator.go (the first `#` becomes `:`), containers/image
docker/docker_transport.go and docker/reference: a host has a dot, a port or is localhost, and is neither an
IPv6 literal nor has an underscore; anything else is a part of a repository of Docker Hub.
"""

import re
from dataclasses import dataclass

from tests.simulators.cell_failures import failed_image

DOCKER_HUB = "docker.io"
HUB_NAMES = frozenset({"", DOCKER_HUB, "index.docker.io"})

_ROOTFS = re.compile(r"docker://(?P<host>[^/?#]*)/(?P<path>[^?#]*)(?:#(?P<fragment>.*))?")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Reference:
    """Which image a rootfs names: `target` is a tag or a digest."""

    host: str
    repository: str
    target: str


def parse_rootfs(rootfs: str) -> Reference:
    """Read a rootfs URI as a cell does; credentials in it are dropped.

    Raises:
        PullFailed: It is no docker URI, its host is none for a cell, or it has both a tag and a digest.
    """
    found = _ROOTFS.fullmatch(rootfs)
    if found is None or not found["path"]:
        raise failed_image("parsing url failed: invalid reference format")
    name = found["path"] + (f":{found['fragment']}" if found["fragment"] else "")
    host = found["host"].rpartition("@")[2]
    if host and not ("." in host or ":" in host or host == "localhost" or host != host.lower()):
        host, name = DOCKER_HUB, f"{host}/{name}"
    if host and not _HOST.fullmatch(host):
        raise failed_image("parsing url failed: invalid reference format")
    repository, _, digest = name.partition("@")
    slash = repository.rfind("/")
    last, colon, tag = repository[slash + 1 :].partition(":")
    repository = repository[: slash + 1] + last
    if digest and colon:
        message = "Docker references with both a tag and digest are currently not supported"
        raise failed_image(f"parsing url failed: {message}")
    if host in HUB_NAMES:
        host = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return Reference(host, repository, digest or tag or "latest")
