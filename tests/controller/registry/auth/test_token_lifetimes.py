"""For how long tokens are used, whatever their server says of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from controller.registry.auth.challenges import parse_token

DATE = "Sun, 29 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("issued_at", "lifetime"),
    [
        ("2026-11-29T09:56:00Z", 60.0),
        ("2026-11-29T09:59:00.123456789Z", 240.123456),
        ("2026-11-29T09:59:00+00:00", 240.0),
        ("2026-11-29T10:58:00+01:00", 180.0),
        ("2026-11-29t09:58:00z", 180.0),
        ("2026-11-29T09:58:00", 180.0),
        ("2026-11-29T10:00:00Z", 300.0),
        ("2026-11-29T10:00:05Z", 300.0),
        ("2036-11-29T10:00:00Z", 300.0),
        ("2026-11-29T09:00:00Z", 300.0),
        ("0001-01-01T00:00:00Z", 300.0),
        ("0001-01-01T00:00:00+23:59", 300.0),
        ("yesterday", 300.0),
        ("2" * 100, 300.0),
        (5, 300.0),
        (None, 300.0),
    ],
)
def test_a_token_ends_its_lifetime_after_it_was_issued(issued_at: object, lifetime: float) -> None:
    """Where that cannot be, such as with a clock that is wrong, it ends its lifetime after it came."""
    body = json.dumps({"token": "T", "expires_in": 300, "issued_at": issued_at}).encode()

    assert parse_token(body, "r.example/a:1 (token)", date=DATE).lifetime == pytest.approx(lifetime)


@pytest.mark.parametrize("date", [None, "", "soon", "Sun, 99 Nov 2026 10:00:00 GMT", "x" * 1000])
def test_our_own_clock_counts_where_the_server_shows_none(date: str | None) -> None:
    issued = datetime.now(UTC) - timedelta(seconds=3000)
    body = json.dumps({"token": "T", "expires_in": 3600, "issued_at": issued.isoformat()}).encode()

    assert 500 < parse_token(body, "r.example/a:1 (token)", date=date).lifetime <= 600


def test_a_token_of_many_days_is_used_for_one_day_of_those_that_are_left() -> None:
    body = b'{"token":"T","expires_in":604800,"issued_at":"2026-11-26T10:00:00Z"}'

    assert parse_token(body, "r.example/a:1 (token)", date=DATE).lifetime == 86400.0


@pytest.mark.parametrize(
    "seconds", ["1" * 400, "-" + "1" * 400, "1e999", "-1", "true", "NaN", "-Infinity", '"60"', "[]"]
)
def test_odd_lifetimes_break_nothing(seconds: str) -> None:
    body = f'{{"token":"T","expires_in":{seconds}}}'.encode()

    assert 60.0 <= parse_token(body, "r.example/a:1 (token)").lifetime <= 86400.0
