"""Refusals of registries, by status and body as seen in the wild."""

from datetime import UTC, datetime

import pytest

from controller.registry.http.refusals import Refusal, error_from_refusal, parse_remaining, parse_retry_after
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable

SUBJECT = "registry.example/library/nginx:1.27"


def refused(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> DockerCacheError:
    return error_from_refusal(Refusal(status, headers or {}, body, SUBJECT, ("marker-password",)))


BODIES: list[tuple[int, bytes, type[DockerCacheError], str, str]] = [
    (
        404,
        b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such name"}]}',
        NotFound,
        "NAME_UNKNOWN",
        "no such name",
    ),
    (404, b'{"errors":[{"code":"NOT_FOUND","message":"404 page not found"}]}', NotFound, "NOT_FOUND", "page"),
    (404, b"<html>nothing here</html>", NotFound, "http-404", "<html>nothing here"),
    (401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', Denied, "UNAUTHORIZED", "missing, or no access"),
    (
        403,
        b"<Error><Code>InvalidArgument</Code>Only one auth mechanism</Error>",
        Denied,
        "http-403",
        "Only one auth mechanism",
    ),
    (
        400,
        b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":"sha256:1"}]}',
        Invalid,
        "MANIFEST_BLOB_UNKNOWN",
        "",
    ),
    (429, b"Too Many Requests (HAP429).\n", RateLimited, "http-429", "Too Many Requests (HAP429)."),
    (
        429,
        b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow"}]}',
        RateLimited,
        "TOOMANYREQUESTS",
        "slow",
    ),
    (500, b'{"errors":[{"code":"UNKNOWN"}]}', Unavailable, "UNKNOWN", ""),
    (502, b"<html>proxy</html>", Unavailable, "http-502", "proxy"),
    (503, b"", Unavailable, "http-503", "status 503"),
    (504, b"<html>", Unavailable, "http-504", "<html>"),
    (408, b"", Unavailable, "http-408", ""),
    (409, b"", Conflict, "http-409", ""),
    (410, b"", NotFound, "http-410", ""),
    (413, b"too big", Invalid, "http-413", "too big"),
    (302, b"", Invalid, "http-302", ""),
    (400, b'{"errors":null}', Invalid, "http-400", ""),
    (400, b'{"errors":["x",{"code":7}]}', Invalid, "http-400", ""),
    (400, b"[" * 100_000, Invalid, "http-400", ""),
    (400, b'{"errors":[{"code":"bad code\\n","message":5}]}', Invalid, "http-400", ""),
]


@pytest.mark.parametrize(("status", "body", "kind", "code", "shown"), BODIES)
def test_a_refusal_is_sorted_by_what_to_do(
    status: int, body: bytes, kind: type[DockerCacheError], code: str, shown: str
) -> None:
    error = refused(status, body)

    assert kind is type(error)
    assert code == error.code
    assert shown in error.detail
    assert str(error).startswith(f"registry: {code}: {SUBJECT}")
    assert "\n" not in str(error)


def test_a_rate_limit_names_time_and_identity() -> None:
    headers = {
        "Retry-After": "60",
        "RateLimit-Remaining": "-472;w=21600",
        "Docker-RateLimit-Source": "1.2.3.4",
    }

    error = refused(429, b"Too Many Requests", headers)

    assert isinstance(error, RateLimited)
    assert error.retry_after == 60.0
    assert "0 pulls left" in error.detail
    assert "1.2.3.4" in error.detail


def test_a_rate_limit_without_a_time_leaves_it_to_the_queue() -> None:
    error = refused(429)

    assert isinstance(error, RateLimited)
    assert error.retry_after is None


RETRY_AFTER: list[tuple[str | None, float | None]] = [
    ("0", 0.0),
    ("Mon, 01 Jan 2024 00:02:00 GMT", 120.0),
    ("Sun, 31 Dec 2023 00:00:00 GMT", 0.0),
    ("soon", None),
    ("-5", None),
    ("1.5", None),
    ("", None),
    (None, None),
    ("21600", 21600.0),
    ("99999999999999999999", 86400.0),
    ("²", None),
]


@pytest.mark.parametrize(("value", "expected"), RETRY_AFTER)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    assert expected == parse_retry_after(value, lambda: datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("76;w=21600", 76), ("0;w=21600", 0), ("-472;w=21600", 0), ("many", None), (None, None)],
)
def test_the_pulls_that_are_left_are_read(value: str | None, expected: int | None) -> None:
    assert expected == parse_remaining(value)
