"""Every error is of one kind, and of the same whether an error or a saved code is looked at."""

import pytest

from reconcile.errors import (
    Conflict,
    Denied,
    DockerCacheError,
    ErrorCode,
    Invalid,
    LeaseLost,
    NotFound,
    RateLimited,
    Unavailable,
)
from reconcile.failure_kinds import FailureKind, kind_of, kind_of_code


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("registry", ErrorCode.TIMEOUT, ""), FailureKind.TIMEOUT),
        (Unavailable("registry", ErrorCode.CONNECTION, ""), FailureKind.CONNECTION),
        (Unavailable("bbs", ErrorCode.CONNECTION_FAILED, ""), FailureKind.CONNECTION),
        (Unavailable("bbs", ErrorCode.BBS_TIMEOUT, ""), FailureKind.TIMEOUT),
        (Denied("bbs", ErrorCode.BBS_CERTIFICATE_REFUSED, ""), FailureKind.CERTIFICATE),
        (Denied("docker", ErrorCode.DAEMON_CERTIFICATE_REFUSED, ""), FailureKind.CERTIFICATE),
        (Unavailable("docker", ErrorCode.DAEMON_DISK_FULL, ""), FailureKind.DISK_FULL),
        (Unavailable("registry", "HTTP 503", ""), FailureKind.UNAVAILABLE),
        (Unavailable("registry", ErrorCode.DISK_FULL, ""), FailureKind.DISK_FULL),
        (RateLimited("registry", "anything", ""), FailureKind.RATE_LIMITED),
        (RateLimited("registry", ErrorCode.TOO_MANY_REQUESTS, ""), FailureKind.RATE_LIMITED),
        (NotFound("registry", "MANIFEST_UNKNOWN", ""), FailureKind.NOT_FOUND),
        (NotFound("bbs", "ResourceNotFound", ""), FailureKind.NOT_FOUND),
        (Denied("registry", "UNAUTHORIZED", ""), FailureKind.DENIED),
        (Denied("registry", ErrorCode.REALM_REFUSED, ""), FailureKind.ADDRESS_REFUSED),
        (Conflict("bbs", "ResourceConflict", ""), FailureKind.CONFLICT),
        (Invalid("registry", ErrorCode.DIGEST_MISMATCH, ""), FailureKind.BAD_CONTENT),
        (Invalid("registry", "image-too-large", ""), FailureKind.TOO_LARGE),
        (Invalid("image", ErrorCode.CANNOT_RUN_ON_CELLS, ""), FailureKind.CANNOT_RUN_ON_CELLS),
        (Invalid("registry", "something-new", ""), FailureKind.OTHER),
        (LeaseLost("it is over"), FailureKind.NOT_ACTIVE),
    ],
)
def test_an_error_has_the_kind_of_its_code_or_else_of_its_class(
    error: DockerCacheError, kind: FailureKind
) -> None:
    assert kind_of(error) is kind


def test_a_source_that_did_not_say_what_a_reference_means_failed_as_its_answer_says() -> None:
    unnamed = Unavailable("registry", ErrorCode.SOURCE_UNREACHABLE, "timeout: it did not answer")
    named = Unavailable("registry", ErrorCode.SOURCE_UNREACHABLE, "unknown-host: no such host")
    named.__cause__ = Unavailable("registry", ErrorCode.UNKNOWN_HOST, "no such host")
    limited = RateLimited("registry", ErrorCode.SOURCE_UNREACHABLE, "later")
    limited.__cause__ = RateLimited("registry", "limited", "later")

    assert kind_of(unnamed) is FailureKind.TIMEOUT
    assert kind_of(named) is FailureKind.UNKNOWN_HOST
    assert kind_of(limited) is FailureKind.RATE_LIMITED


def test_a_code_that_is_known_means_the_same_without_its_error() -> None:
    assert kind_of_code("disk-full") is FailureKind.DISK_FULL
    assert kind_of_code("MANIFEST_UNKNOWN") is FailureKind.NOT_FOUND
    assert kind_of_code("internal-error") is FailureKind.INTERNAL_ERROR
    assert kind_of_code("") is FailureKind.OTHER


def test_kinds_are_few_and_have_plain_names() -> None:
    assert len(FailureKind) <= 30
    assert all(kind.replace("-", "").isalpha() and kind.islower() for kind in FailureKind)
