"""The texts of failed starts, as the BBS shows them in `crash_reason`, `rejection_reason` and `failure_reason`.

Source: measured on a real cell; executor depot/containerstore/storenode.go, grootfs commands/create.go,
containers/image docker/errors.go, docker/distribution_error.go; docker distribution registry/api/errcode.
"""

import json
from http import HTTPStatus

CREATE = "failed to create container: running image plugin create: "
REFERENCE = f"{CREATE}fetching image reference: creating image: "
SOURCE = f"{REFERENCE}creating image source: "
PULLING = f"{CREATE}pulling the image: "
END = "\n: exit status 1"

UNKNOWN_CA = (
    "This registry is insecure. To pull images from this registry, please use the --insecure-registry option."
)
NAMESERVER = "169.254.0.2:53"

MESSAGES = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "NAME_UNKNOWN": "repository name not known to registry",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "TOOMANYREQUESTS": "too many requests",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNAVAILABLE": "service unavailable",
    "UNKNOWN": "unknown error",
}
"""Code of a registry's error to the message that the distribution registry gives by default."""


class PullFailed(Exception):
    """The image cannot be had; the text is the crash reason."""


def failed_create(detail: str) -> PullFailed:
    """Say that an image could not be created, in whatever step."""
    return PullFailed(f"{CREATE}{detail}{END}")


def failed_source(detail: str) -> PullFailed:
    """Say that the registry or its manifest cannot be had."""
    return PullFailed(f"{SOURCE}{detail}{END}")


def failed_image(detail: str) -> PullFailed:
    """Say that a manifest cannot be used."""
    return PullFailed(f"{REFERENCE}{detail}{END}")


def failed_config(detail: str) -> PullFailed:
    """Say that an image's config cannot be had."""
    return PullFailed(f"{CREATE}fetching image configuration: {detail}{END}")


def failed_layer(digest: str, detail: str) -> PullFailed:
    """Say that a layer cannot be had or is not what it should be."""
    return PullFailed(f"{PULLING}streaming blob `{digest}`: {detail}{END}")


def failed_unpacking(digest: str, detail: str) -> PullFailed:
    """Say that a layer cannot be unpacked."""
    return PullFailed(f"{PULLING}unpacking layer `{digest}`: {detail}{END}")


def over_quota(size: int, limit: int) -> PullFailed:
    """Say that the layers' compressed bytes are more than the container's disk."""
    return PullFailed(f"{PULLING}layers exceed disk quota {size}/{limit} bytes{END}")


def too_few_diff_ids(index: int, count: int) -> PullFailed:
    """Say that the config lists fewer layers than the manifest, at which the image plugin panics."""
    detail = f"panic: runtime error: index out of range [{index}] with length {count}"
    return PullFailed(f"{CREATE}{detail}\n: exit status 2")


def ping(host: str, scheme: str, problem: str) -> str:
    """Word a failed first request to a registry."""
    return f'pinging container registry {host}: Get "{scheme}://{host}/v2/": {problem}'


def no_such_host(host: str) -> str:
    """Word a name that nobody knows."""
    return f"dial tcp: lookup {host.partition(':')[0]} on {NAMESERVER}: no such host"


def refused(host: str) -> str:
    """Word a refused connection."""
    address = host if host.rpartition(":")[2].isdecimal() else f"{host}:443"
    return f"dial tcp {address}: connect: connection refused"


def exited(status: int) -> str:
    """Word a process that ended by itself."""
    return f"Exited with status {status}"


def no_such_program(path: str) -> str:
    """Word a process that cannot be started in its container."""
    what = f'exec: "{path}": stat {path}: no such file or directory'
    return f"exec failed: unable to start container process: {what}"


def no_such_user(name: str) -> str:
    """Word a user that the image does not know."""
    return f"unable to find user {name}: no matching entries in passwd file"


def unexpected_status(status: int) -> str:
    """Word an answer that says nothing but its status."""
    return f"received unexpected HTTP status: {status} {HTTPStatus(status).phrase}"


def refusal(status: int, body: bytes, challenge: str = "") -> str:
    """Word a registry's answer that is no success.

    Args:
        status: The answer's status.
        body: Its body, with errors in the registry's format or whatever stands before it.
        challenge: Its WWW-Authenticate header.
    """
    if not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return unexpected_status(status)
    if status == HTTPStatus.UNAUTHORIZED and challenge.lower().startswith("bearer"):
        for word, code in (("invalid_token", "UNAUTHORIZED"), ("insufficient_scope", "DENIED")):
            if f'error="{word}"' in challenge:
                return MESSAGES[code]
    try:
        first = json.loads(body)["errors"][0]
        code, message, detail = str(first["code"]), str(first.get("message") or ""), first.get("detail")
    except (ValueError, LookupError, TypeError):
        if status == HTTPStatus.UNAUTHORIZED:
            return MESSAGES["UNAUTHORIZED"]
        start = body[:50].decode(errors="replace") + ("..." if len(body) > 50 else "")
        return f"StatusCode: {status}, {json.dumps(start)}"
    code = code if code in MESSAGES else "UNKNOWN"
    name, usual = code.lower().replace("_", " "), MESSAGES[code]
    if detail is None and message in {"", usual}:
        return name
    return message if message == usual else f"{name}: {message}"
