"""Says in plain words why an image was not copied.

Only the code of a failure is read: its detail may hold the text of another system, and what only operators
should see.
"""

from collections.abc import Mapping

from reconcile.errors import ErrorCode


def why(failure: str, *, is_private: bool = False) -> str:
    """Say in plain words why a copy was not made.

    Args:
        failure: "code: detail", as a job has it; only its codes are read.
        is_private: Whether it is of the platform's own registry, as `is_about` says.
    """
    code, _ = _last(failure)
    if is_private and code not in _OF_NO_REGISTRY:
        return _PRIVATE
    return _CAUSES.get(code, "something went wrong that the platform's operators can look up")


def is_about(failure: str, registry: str) -> bool:
    """Whether a failure is of a registry: its detail begins with what was asked there.

    Args:
        failure: "code: detail", as a job has it.
        registry: Host, with its port where it has one.
    """
    _, detail = _last(failure)
    return detail.startswith(tuple(f"{registry}{end}" for end in "/: ")) or detail == registry


def _last(failure: str) -> tuple[str, str]:
    """Read the code that says most, and its detail: an end to all attempts has those of the last one."""
    code, rest = _split(failure)
    if code == ErrorCode.GAVE_UP:
        code, rest = _split(rest.partition(", last ")[2] or code)
    inner, inner_rest = _split(rest)
    return (inner, inner_rest) if code == ErrorCode.SOURCE_UNREACHABLE and inner in _CAUSES else (code, rest)


def _split(text: str) -> tuple[str, str]:
    code, _, rest = text.partition(":")
    return code.strip(), rest.strip()


_SILENT = "a registry did not answer, or the connection to it broke"
_REFUSED = (
    "its registry refuses the login, or asks for one: check the image's name and the app's login for it"
)
_UNKNOWN = "its registry does not have it: check its name and tag"
_PRIVATE = "the platform's registry cannot take it at the moment, which its operators see"
_SLOW = "its registry sends it too slowly"
_BROKEN = "what its registry sends is not what the image's digests say"
_LARGE = "it is larger than the platform's operators allow for copies"
_ADDRESS = "its registry is, or leads to, where the platform fetches no images from"

_CAUSES: Mapping[str, str] = {
    ErrorCode.CONNECTION: _SILENT,
    ErrorCode.CONNECTION_FAILED: _SILENT,
    ErrorCode.CUT: _SILENT,
    ErrorCode.TIMEOUT: _SILENT,
    ErrorCode.UNKNOWN_HOST: "nobody knows the host of its registry: check the image's name",
    ErrorCode.CERTIFICATE: "the platform does not trust the certificate of its registry",
    ErrorCode.NO_TLS: "its registry does not speak TLS",
    ErrorCode.TOO_MANY_REQUESTS: "its registry limits how often images may be pulled",
    ErrorCode.SOURCE_UNREACHABLE: _SILENT,
    ErrorCode.UNAUTHORIZED: _REFUSED,
    ErrorCode.DENIED: _REFUSED,
    ErrorCode.BAD_CREDENTIALS: _REFUSED,
    ErrorCode.TOKEN_EXPIRED: _REFUSED,
    ErrorCode.NO_ECR_EXCHANGE: "the platform cannot use an AWS access key as a login",
    ErrorCode.CREDENTIALS_LOST: "the login for its registry is not known any more; restage the app",
    ErrorCode.MANIFEST_UNKNOWN: _UNKNOWN,
    ErrorCode.NAME_UNKNOWN: _UNKNOWN,
    ErrorCode.BLOB_UNKNOWN: _UNKNOWN,
    ErrorCode.ADDRESS_REFUSED: _ADDRESS,
    ErrorCode.ORIGIN_REFUSED: _ADDRESS,
    ErrorCode.REALM_REFUSED: _ADDRESS,
    ErrorCode.REDIRECT_REFUSED: _ADDRESS,
    ErrorCode.DIGEST_MISMATCH: _BROKEN,
    ErrorCode.SIZE_MISMATCH: _BROKEN,
    ErrorCode.DISK_FULL: _PRIVATE,
    ErrorCode.QUOTA_EXCEEDED: _PRIVATE,
    ErrorCode.READ_ONLY: _PRIVATE,
    ErrorCode.STORAGE_FAILED: _PRIVATE,
    ErrorCode.UPLOAD_FAILED: _PRIVATE,
    ErrorCode.NOT_REPAIRED: _PRIVATE,
    ErrorCode.CANNOT_RUN_ON_CELLS: "the platform's cells cannot run it, from its own registry either",
    ErrorCode.TOO_SLOW: _SLOW,
    ErrorCode.TOOK_TOO_LONG: "it took too long",
    ErrorCode.FAILED_BYTES: "too many copies of its organization failed today",
    ErrorCode.GAVE_UP: _SILENT,
    ErrorCode.IMAGE_TOO_LARGE: _LARGE,
    ErrorCode.MANIFEST_TOO_LARGE: _LARGE,
    ErrorCode.INDEX_TOO_LARGE: _LARGE,
    ErrorCode.TOO_MANY_LAYERS: _LARGE,
    ErrorCode.NOT_WANTED: "its staging failed",
}
"""Causes by code. A code that is missing here is for operators."""

_OF_NO_REGISTRY = frozenset(
    {
        ErrorCode.CANNOT_RUN_ON_CELLS,
        ErrorCode.CREDENTIALS_LOST,
        ErrorCode.FAILED_BYTES,
        ErrorCode.NO_ECR_EXCHANGE,
        ErrorCode.TOOK_TOO_LONG,
        ErrorCode.IMAGE_TOO_LARGE,
        ErrorCode.MANIFEST_TOO_LARGE,
        ErrorCode.INDEX_TOO_LARGE,
        ErrorCode.TOO_MANY_LAYERS,
        ErrorCode.NOT_WANTED,
    }
)
"""Codes that say nothing of a registry, whichever one was asked."""
