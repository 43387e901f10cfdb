# ruff: noqa: N802 - names carry the numbers of known bugs
"""Challenges, scopes and token answers as text; what is done about them is tested in test_auth."""

import json
import time

import pytest

from controller.registry.auth.challenges import (
    BasicChallenge,
    BearerChallenge,
    Challenge,
    choose_challenge,
    merge_scopes,
    parse_token,
)
from reconcile.errors import Invalid


def bearer(realm: str, service: str = "", *scopes: str) -> BearerChallenge:
    return BearerChallenge(realm, service, frozenset(scopes))


CHALLENGES: list[tuple[str, list[str], Challenge | None]] = [
    (
        "a comma inside quotes",
        [
            (
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:library/busybox:pull,push"'
            )
        ],
        bearer("https://auth.docker.io/token", "registry.docker.io", "repository:library/busybox:pull,push"),
    ),
    (
        "no service",
        ['Bearer realm="http://127.0.0.1:5000/openshift/token"'],
        bearer("http://127.0.0.1:5000/openshift/token"),
    ),
    (
        "two in one line",
        ['Basic realm="r", Bearer realm="https://a/t",service="s"'],
        bearer("https://a/t", "s"),
    ),
    (
        "without a space",
        ['Bearer realm="https://a/t",service="s",Basic realm="x"'],
        bearer("https://a/t", "s"),
    ),
    ("two header lines", ['Basic realm="r"', 'Bearer realm="https://a/t"'], bearer("https://a/t")),
    ("no parameters", ["Basic"], BasicChallenge()),
    (
        "insufficient scope",
        ['Bearer realm="https://a/t",error="insufficient_scope",scope="repository:x/y:pull,push"'],
        bearer("https://a/t", "", "repository:x/y:pull,push"),
    ),
    (
        "several scopes",
        ['Bearer realm="https://a/t",scope="repository:a:pull repository:b:pull,push"'],
        bearer("https://a/t", "", "repository:a:pull", "repository:b:pull,push"),
    ),
    ("no realm", ['Bearer service="s"'], None),
    ("a relative realm", ['Bearer realm="/v2/token"'], bearer("/v2/token")),
    ("a quoted pair", ['Bearer realm="say \\"hi, there\\""'], bearer('say "hi, there"')),
    ("an unknown scheme first", ["Negotiate", 'Basic realm="x"'], BasicChallenge()),
    ("an unknown scheme with data", ["Negotiate YII/abc+de==, Basic realm=x"], BasicChallenge()),
    ("odd case and space", ['bEARER  Realm = "https://a/t" ,, SERVICE=s'], bearer("https://a/t", "s")),
    ("an unquoted URL", ["Bearer realm=https://a/t,service=s"], bearer("https://a/t", "s")),
    ("a line feed in the realm", ['Bearer realm="https://a/\nt"'], None),
    ("no header", [], None),
    ("an open quote", ['Bearer realm="https://a/t",service="s'], bearer("https://a/t")),
    ("an open quote with an escape", ['Bearer realm="https://a/t",service="s\\'], bearer("https://a/t")),
    ("a realm that is too long", [f'Bearer realm="https://a/{"t" * 3000}"'], None),
    ("a service that is too long", [f'Bearer realm="https://a/t",service="{"s" * 600}"'], None),
    (
        "scopes that are too long or too many",
        [f'Bearer realm="https://a/t",scope="{"a" * 600} {" ".join(f"b{n}" for n in range(100))}"'],
        bearer("https://a/t", "", *(f"b{n}" for n in range(8))),
    ),
    ("one that begins too late", ["x" * 10_000, 'Bearer realm="https://a/t"'], None),
    ("rubbish", ['"""====,,,'], None),
]


@pytest.mark.parametrize(
    ("headers", "expected"), [row[1:] for row in CHALLENGES], ids=[row[0] for row in CHALLENGES]
)
def test_B3_B4_the_strongest_challenge_is_chosen(headers: list[str], expected: Challenge | None) -> None:
    assert expected == choose_challenge(headers)


def test_B7_scopes_of_one_repository_become_one() -> None:
    merged = merge_scopes(["repository:a/b:pull"], ["repository:a/b:push,pull", "repository:c:pull"])

    assert frozenset({"repository:a/b:pull,push", "repository:c:pull"}) == merged


TOKENS = [
    (b'{"access_token":"T","expires_in":100}', "T", 100.0),
    (b'{"token":"A","access_token":"B"}', "A", 60.0),
    (b'{"token":"T"}', "T", 60.0),
    (b'{"token":"T","expires_in":100,"issued_at":"0001-01-01T00:00:00Z"}', "T", 100.0),
    (b'{"token":"T","expires_in":2}', "T", 60.0),
    (b'{"token":"T","expires_in":"soon"}', "T", 60.0),
    (b'{"token":"T","expires_in":NaN}', "T", 60.0),
    (b'{"token":"T","expires_in":1e999}', "T", 86400.0),
    (b'{"token":"T","expires_in":' + b"9" * 400 + b"}", "T", 86400.0),
    (b'{"token":"","access_token":"B"}', "B", 60.0),
]


@pytest.mark.parametrize(("body", "value", "lifetime"), TOKENS)
def test_a_token_answer_gives_token_and_life(body: bytes, value: str, lifetime: float) -> None:
    token = parse_token(body, "r.example/a:1 (token)")

    assert (value, lifetime) == (token.value, token.lifetime)
    assert f"Token(lifetime={lifetime})" == repr(token)


@pytest.mark.parametrize("body", [b"{}", b'{"token":""}', b'{"token":"a\\nb"}', b'["T"]', b'{"token":1}'])
def test_an_answer_without_a_token_is_an_error(body: bytes) -> None:
    with pytest.raises(Invalid, match="holds no token"):
        parse_token(body, "r.example/a:1 (token)")


def test_an_answer_that_is_no_json_is_shown() -> None:
    with pytest.raises(Invalid, match="status 200 with 'IAmNotJson'"):
        parse_token(b"IAmNotJson", "r.example/a:1 (token)")


@pytest.mark.parametrize("value", ["T" * 16385, "T" * 1_000_000])
@pytest.mark.parametrize("name", ["token", "access_token"])
def test_a_token_that_is_too_long_is_an_error_that_does_not_show_it(name: str, value: str) -> None:
    with pytest.raises(Invalid, match="longer than 16384 characters") as refused:
        parse_token(json.dumps({name: value, "expires_in": 86400}).encode(), "r.example/a:1 (token)")

    assert len(refused.value.detail) < 200


def test_a_token_may_be_as_long_as_those_of_large_registries() -> None:
    assert len(parse_token(json.dumps({"token": "T" * 16384}).encode(), "r.example/a:1").value) == 16384


@pytest.mark.parametrize(
    "piece", ["a", "a ", '"', '\\"', 'a="', 'a="\\"', "a=", "=", ",", " \t", "a= ", '""', "\\"]
)
def test_a_challenge_of_any_text_is_read_in_one_walk(piece: str) -> None:
    hostile = [piece * (65536 // len(piece)), "Bearer " + piece * (65536 // len(piece))]
    before = time.thread_time()

    assert choose_challenge(hostile) is None

    assert time.thread_time() - before < 2.0  # of the processor; some milliseconds are usual
