"""Refusals of registries, by status and body as seen in the wild."""

import json
import time
from datetime import UTC, datetime

import pytest

from controller.registry.http.refusals import Refusal, error_from_refusal, parse_remaining, parse_retry_after
from reconcile.errors import (
    Conflict,
    Denied,
    DockerCacheError,
    ErrorCode,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
)

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


# What the CNCF registry 2.8 answers on a full disk, to the bytes of a blob and to the start of an upload, and
# on a read-only one; then what others say.
FULL_FOR_BLOB = (
    b'{"errors":[{"code":"UNKNOWN","message":"unknown error",'
    b'"detail":"write /data/docker/registry/v2/repositories/a/_uploads/d98/data: no space left on device"}]}'
)
FULL_FOR_START = (
    b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem",'
    b'"Enclosed":{"Op":"write","Path":"/data/docker/registry/v2/repositories/a/_uploads/a6c/startedat","Err":28}}}]}'
)
READ_ONLY_DISK = FULL_FOR_START.replace(b"28", b"30")
HARBOR_FULL = (
    b'{"errors":[{"code":"DENIED","message":"adding 2.0 MiB of storage resource, which when updated to '
    b'current usage of 9 MiB will exceed the configured upper limit of 10.0 MiB."}]}'
)
HARBOR_READ_ONLY = b'{"errors":[{"code":"DENIED","message":"The system is in read only mode. Any modification is prohibited."}]}'
STORES_NOTHING: list[tuple[str, int, bytes, ErrorCode, str]] = [
    (
        "PUT",
        500,
        FULL_FOR_BLOB,
        ErrorCode.DISK_FULL,
        "its disk is full (status 500: UNKNOWN: unknown error: write",
    ),
    ("POST", 500, FULL_FOR_START, ErrorCode.DISK_FULL, '"Op":"write"'),
    (
        "POST",
        500,
        FULL_FOR_START.replace(b"28", b"122"),
        ErrorCode.QUOTA_EXCEEDED,
        "its storage quota is used up",
    ),
    ("POST", 500, FULL_FOR_START.replace(b"28", b"13"), ErrorCode.STORAGE_FAILED, "its storage fails"),
    ("POST", 500, READ_ONLY_DISK, ErrorCode.READ_ONLY, "it is read-only"),
    ("POST", 405, b"Method not allowed\n", ErrorCode.READ_ONLY, "(status 405: Method not allowed)"),
    ("PUT", 507, b"", ErrorCode.DISK_FULL, "its disk is full (status 507)"),
    ("PUT", 412, HARBOR_FULL, ErrorCode.QUOTA_EXCEEDED, "(status 412: DENIED: adding 2.0 MiB"),
    ("PUT", 403, b"Quota exceeded", ErrorCode.QUOTA_EXCEEDED, "(status 403: Quota exceeded)"),
    ("POST", 403, HARBOR_READ_ONLY, ErrorCode.READ_ONLY, "read only mode"),
    ("PUT", 503, b"<Code>XMinioStorageFull</Code>", ErrorCode.DISK_FULL, "its disk is full"),
]


@pytest.mark.parametrize(("method", "status", "body", "code", "shown"), STORES_NOTHING)
def test_a_registry_that_stores_nothing_is_waited_for_and_says_why(
    method: str, status: int, body: bytes, code: ErrorCode, shown: str
) -> None:
    error = error_from_refusal(Refusal(status, {}, body, SUBJECT, method=method))

    assert type(error) is Unavailable
    assert (error.code, error.retry_after) == (code, None)
    assert shown in error.detail
    assert error.detail.startswith(f"{SUBJECT}: it")


NO_FAULTS: list[tuple[str, int, bytes]] = [
    ("GET", 405, b""),
    ("HEAD", 405, b""),
    ("DELETE", 405, b"Method not allowed"),
    ("GET", 403, HARBOR_READ_ONLY),
    ("GET", 404, FULL_FOR_BLOB),
    ("PUT", 400, FULL_FOR_BLOB),
    ("PUT", 500, b'{"errors":[{"code":"UNKNOWN","detail":{"Err":28}}]}'),
    ("PUT", 500, b'{"errors":[{"code":"UNKNOWN","detail":{"Op":"write","Err":"28"}}]}'),
    ("PUT", 500, b'{"errors":[{"code":"UNKNOWN","detail":{"Op":"open","Err":2}}]}'),
]


@pytest.mark.parametrize(("method", "status", "body"), NO_FAULTS)
def test_another_refusal_does_not_say_that_nothing_is_stored(method: str, status: int, body: bytes) -> None:
    error = error_from_refusal(Refusal(status, {}, body, SUBJECT, method=method))

    assert error.code in {"UNKNOWN", "DENIED", f"http-{status}"}


def test_an_error_is_shown_with_status_message_and_detail() -> None:
    body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}'

    assert str(refused(404, body)) == (
        f'registry: MANIFEST_UNKNOWN: {SUBJECT}: status 404: manifest unknown: {{"Tag":"x"}}'
    )


@pytest.mark.parametrize("detail", [b"{}", b"null", b'""', b"[]", b'"manifest unknown"'])
def test_a_detail_that_says_nothing_is_left_out(detail: bytes) -> None:
    body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":%b}]}' % detail

    assert refused(404, body).detail == f"{SUBJECT}: status 404: manifest unknown"


def test_a_detail_is_foreign_text() -> None:
    detail = (
        b'{"a":"marker-password","Authorization":"Bearer abcdefghij","url":"https://u:p@s.example/x?sig=1"}'
    )
    error = refused(500, b'{"errors":[{"code":"UNKNOWN","message":"m\\u001b[31m","detail":%b}]}' % detail)

    for secret in ("marker-password", "abcdefghij", "u:p", "sig=1", "\x1b"):
        assert secret not in error.detail
    huge = refused(500, b'{"errors":[{"code":"UNKNOWN","detail":"%b"}]}' % (b"x" * 60_000))
    assert len(huge.detail) < len(SUBJECT) + 300


def test_a_detail_of_any_depth_is_read_in_bounded_time() -> None:
    deep = b"[" * 500 + b"]" * 500
    wide = b"[" + b",".join([b'{"Op":"write","Err":1}'] * 5000) + b"]"
    for detail in (deep, wide):
        error = refused(500, b'{"errors":[{"code":"UNKNOWN","detail":%b}]}' % detail)
        assert error.code == "UNKNOWN"


def test_a_body_that_is_too_large_names_the_limit_the_size_and_what_to_change() -> None:
    page = b"<html><head><title>413 Request Entity Too Large</title></head>"
    error = error_from_refusal(Refusal(413, {}, page, SUBJECT, method="PUT", length=73_400_320))

    assert type(error) is Invalid
    for shown in ("73,400,320 bytes", "client_max_body_size", "413 Request Entity Too Large"):
        assert shown in error.detail


@pytest.mark.parametrize("unit", ["x-amz-", "token", "https://a:", "a@", "basic ", '"token":"', "?", "\x1b["])
def test_a_message_of_any_text_is_read_in_bounded_time(unit: str) -> None:
    message = unit * (65_000 // len(unit))
    started = time.thread_time()

    error = refused(403, json.dumps({"errors": [{"code": "DENIED", "message": message}]}).encode()[:65_536])

    assert time.thread_time() - started < 0.5, "seconds on the processor; a quadratic pattern took ten"
    assert len(error.detail) < 512
    assert error.detail.isprintable()


@pytest.mark.parametrize(
    "said", ["marker-password", "bWFya2VyLXBhc3N3b3Jk", "x%20marker-password", r"\"marker-password\""]
)
@pytest.mark.parametrize("before", [0, 100, 185, 195, 240, 4090])
def test_a_secret_is_masked_before_the_text_is_cut(before: int, said: str) -> None:
    error = refused(500, b"x" * before + b" " + said.encode() + b" " * 5000)

    assert "marker" not in error.detail
    assert "bWFy" not in error.detail
