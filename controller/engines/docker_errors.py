"""Turns the failures that a docker daemon reports into the errors of the core.

The status of a response decides little: 500 covers wrong credentials and a lost network alike, and
most failures are reported as text inside a stream that started with status 200.

Source: texts seen on daemon 20.10, and moby's distribution package.
"""

from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, RateLimited, Unavailable
from reconcile.foreign_text import clean

SECONDS_TO_FREE_SPACE = 300.0

# The first text that the message contains decides.
_KINDS: tuple[tuple[tuple[str, ...], type[DockerCacheError], str], ...] = (
    (("toomanyrequests", "too many requests", "429"), RateLimited, "rate-limited"),
    (("x509",), Denied, ErrorCode.DAEMON_CERTIFICATE_REFUSED),
    (("permission denied",), Unavailable, "daemon-error"),
    (
        ("unauthorized", "authentication required", "no basic auth", "denied", "insufficient_scope"),
        Denied,
        "unauthorized",
    ),
    (("no matching manifest",), Invalid, "no-platform"),
    (
        ("manifest unknown", "not found", "name unknown", "does not exist", "unknown blob", "blob unknown"),
        NotFound,
        "not-found",
    ),
    (
        (
            "unsupported media type",
            "schema",
            "manifest.v1",
            "failed to register layer",
            "verification failed",
            "don't match image configuration",
        ),
        Invalid,
        "image-refused",
    ),
)
_CODES: dict[int, tuple[type[DockerCacheError], str]] = {
    400: (Invalid, "bad-request"),
    401: (Denied, "unauthorized"),
    403: (Denied, "unauthorized"),
    404: (NotFound, "not-found"),
    429: (RateLimited, "rate-limited"),
}


def is_disk_full(text: str) -> bool:
    """Whether a text, of an error or of progress, reports that the daemon's disk is full."""
    return "no space left on device" in text.lower()


def error_from_text(
    text: str, attempted: str, *, code: int | None = None, secrets: tuple[str, ...] = ()
) -> DockerCacheError:
    """Turn the text of a failure into an error; the code decides where the text does not.

    Args:
        text: As the daemon sent it.
        attempted: What was attempted on which image, such as "pull r.example/a/b:1".
        code: HTTP status, or the code of an `errorDetail`.
        secrets: Texts that must not be shown.
    """
    detail = f"{attempted}: {clean(text, secrets) or f'status {code}'}"
    if is_disk_full(text):
        detail = f"{attempted}: the daemon's disk is full, free space on it: {clean(text, secrets)}"
        return Unavailable("docker", ErrorCode.DAEMON_DISK_FULL, detail, retry_after=SECONDS_TO_FREE_SPACE)
    lower = text.lower()
    for texts, kind, name in _KINDS:
        if any(each in lower for each in texts):
            return kind("docker", name, detail)
    kind, name = _CODES.get(code or 0, (Unavailable, "daemon-error"))
    return kind("docker", name, detail)
