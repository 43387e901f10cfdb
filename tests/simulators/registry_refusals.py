"""What becomes of a request that a test lets fail on its way.

Source: measured on a real cell; containers/image docker/docker_client.go.
"""

import json

from tests.simulators import cell_failures as failures
from tests.simulators.cell_network import (
    Condition,
    ErrorResponse,
    NotInsecure,
    Refused,
    UnknownAuthority,
    UnknownHost,
)

HUB, HUB_REGISTRY = "docker.io", "registry-1.docker.io"
CODES = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}


class Refusal(Exception):
    """The registry cannot be reached or does not give what was asked for; the text says so as a cell does."""


class Untrusted(Exception):
    """The registry's certificate is not trusted, for which a cell has words of its own."""


def unreachable(condition: Condition | None, host: str) -> str:
    """Say why a registry cannot even be pinged; empty if it can be.

    Raises:
        Untrusted: Its certificate is of an unknown authority.
    """
    match condition:
        case UnknownHost():
            problem = failures.no_such_host(host)
        case NotInsecure():
            problem = "http: server gave HTTP response to HTTPS client"
        case Refused():
            problem = failures.refused(host)
        case UnknownAuthority():
            raise Untrusted
        case _:
            return ""
    return failures.ping(host, "https", problem)


def shown_host(host: str) -> str:
    """Give the name under which a host is asked."""
    return HUB_REGISTRY if host == HUB else host


def answered(condition: ErrorResponse) -> tuple[int, bytes]:
    """Write the answer of a registry that refuses."""
    code = CODES.get(condition.status, "UNKNOWN")
    error = {"code": code, "message": condition.message or failures.MESSAGES[code], "detail": {}}
    return condition.status, json.dumps({"errors": [error]}).encode()
