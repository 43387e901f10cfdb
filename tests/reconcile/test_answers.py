"""The table of answers decides about everything that a registry can answer, each rule about something."""

from itertools import product

import pytest

from reconcile.answers import (
    RULES,
    WAITED_FOR,
    AnswerRule,
    RefusedAnswer,
    RegistryCall,
    Side,
    rule_for,
)
from reconcile.errors import (
    Conflict,
    Denied,
    DockerCacheError,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
    Verdict,
)

STATUSES = [*range(300, 309), *range(400, 432), 451, 499, *range(500, 512), 522, 599, 999]
CODES = sorted({code for rule in RULES for code in rule.codes} | {"UNKNOWN", ""})
ALL = [
    RefusedAnswer(side, call, status, (code,) if code else (), names_a_time=named)
    for side, call, status, code, named in product(Side, RegistryCall, STATUSES, CODES, (False, True))
]


@pytest.fixture(scope="module")
def decided() -> dict[RefusedAnswer, AnswerRule]:
    return {answer: rule_for(answer) for answer in ALL}


def test_every_answer_is_decided_about_and_every_rule_decides(
    decided: dict[RefusedAnswer, AnswerRule],
) -> None:
    assert len(decided) == len(ALL)
    assert {id(rule) for rule in decided.values()} == {id(rule) for rule in RULES}


def test_what_is_tried_again_is_an_error_that_callers_try_again(
    decided: dict[RefusedAnswer, AnswerRule],
) -> None:
    for answer, rule in decided.items():
        is_own_write = rule.error is NotFound and answer.side is Side.PRIVATE
        if rule.verdict is Verdict.AGAIN:
            assert issubclass(rule.error, Unavailable) or is_own_write, answer
        if rule.verdict is Verdict.FINAL:
            assert not issubclass(rule.error, Unavailable), answer


def test_a_registry_that_says_when_is_never_given_up_for_what_it_refuses_now(
    decided: dict[RefusedAnswer, AnswerRule],
) -> None:
    for answer, rule in decided.items():
        if answer.names_a_time and answer.status in {403, 409, 429, 500, 503}:
            assert rule.verdict is not Verdict.FINAL or answer.call is RegistryCall.LOOK_UP_BLOB, answer


def test_every_rule_tells_what_is_done_and_what_people_should_do() -> None:
    for rule in RULES:
        for text in (rule.way, rule.operator, rule.developer):
            assert text.endswith("."), text
            assert "|" not in text


def test_whatever_stores_nothing_for_now_is_waited_for() -> None:
    for code in WAITED_FOR:
        rule = rule_for(RefusedAnswer(Side.PRIVATE, RegistryCall.UPLOAD_BLOB, 500, (code, "UNKNOWN")))
        assert (rule.verdict, rule.error) == (Verdict.AGAIN, Unavailable)


S, P, CALL = Side.SOURCE, Side.PRIVATE, RegistryCall
FINAL, AGAIN, OTHER = Verdict.FINAL, Verdict.AGAIN, Verdict.OTHER_WAY
DECISIONS: list[tuple[Side, RegistryCall, int, tuple[str, ...], bool, Verdict, type[DockerCacheError]]] = [
    (P, CALL.START_UPLOAD, 405, ("read-only",), False, AGAIN, Unavailable),
    (P, CALL.WRITE_MANIFEST, 405, ("read-only", "UNSUPPORTED"), False, AGAIN, Unavailable),
    (P, CALL.DELETE_MANIFEST, 405, ("UNSUPPORTED",), False, FINAL, Invalid),
    (P, CALL.READ_MANIFEST, 404, ("MANIFEST_UNKNOWN",), False, AGAIN, NotFound),
    (S, CALL.READ_MANIFEST, 404, ("MANIFEST_UNKNOWN",), False, FINAL, NotFound),
    (P, CALL.UPLOAD_BLOB, 404, ("BLOB_UPLOAD_UNKNOWN",), False, OTHER, Unavailable),
    (P, CALL.UPLOAD_BLOB, 404, ("BLOB_UPLOAD_INVALID",), False, OTHER, Unavailable),
    (P, CALL.UPLOAD_BLOB, 400, ("SIZE_INVALID",), False, OTHER, Unavailable),
    (P, CALL.UPLOAD_BLOB, 400, (), False, FINAL, Invalid),
    (S, CALL.READ_MANIFEST, 400, ("MANIFEST_BLOB_UNKNOWN",), False, AGAIN, Unavailable),
    (S, CALL.READ_MANIFEST, 404, ("UNKNOWN", "MANIFEST_BLOB_UNKNOWN"), False, AGAIN, Unavailable),
    (P, CALL.WRITE_MANIFEST, 400, ("TAG_INVALID",), False, OTHER, Invalid),
    (P, CALL.WRITE_MANIFEST, 412, ("PRECONDITION",), False, OTHER, Conflict),
    (P, CALL.WRITE_MANIFEST, 403, ("DENIED",), False, OTHER, Denied),
    (P, CALL.WRITE_MANIFEST, 400, ("MANIFEST_BLOB_UNKNOWN",), False, OTHER, Invalid),
    (S, CALL.READ_MANIFEST, 403, (), True, AGAIN, Unavailable),
    (S, CALL.READ_BLOB, 403, ("DENIED",), True, AGAIN, Unavailable),
    (S, CALL.READ_BLOB, 403, ("DENIED",), False, FINAL, Denied),
    (S, CALL.FETCH_TOKEN, 403, (), True, AGAIN, Unavailable),
    (S, CALL.FETCH_TOKEN, 403, (), False, FINAL, Denied),
    (S, CALL.FETCH_TOKEN, 404, (), False, FINAL, Invalid),
    (S, CALL.LOOK_UP_MANIFEST, 500, (), False, OTHER, Unavailable),
    (S, CALL.LOOK_UP_MANIFEST, 501, (), False, OTHER, Unavailable),
    (S, CALL.LOOK_UP_MANIFEST, 502, (), False, OTHER, Unavailable),
    (S, CALL.LOOK_UP_MANIFEST, 503, (), False, AGAIN, Unavailable),
    (P, CALL.LOOK_UP_MANIFEST, 401, (), False, OTHER, Unavailable),
    (S, CALL.LOOK_UP_MANIFEST, 404, (), False, FINAL, NotFound),
    (P, CALL.LOOK_UP_BLOB, 405, (), False, OTHER, Unavailable),
    (P, CALL.LOOK_UP_BLOB, 403, (), False, FINAL, NotFound),
    (P, CALL.UPLOAD_AFTER_MOUNT, 405, ("read-only",), False, OTHER, Unavailable),
    (P, CALL.UPLOAD_AFTER_MOUNT, 400, (), False, OTHER, Unavailable),
    (P, CALL.MOUNT_BLOB, 500, (), False, OTHER, Denied),
    (P, CALL.MOUNT_BLOB, 429, (), False, AGAIN, RateLimited),
    (S, CALL.LIST_REFERRERS, 403, (), False, OTHER, Denied),
    (S, CALL.LIST_REFERRERS, 503, (), False, AGAIN, Unavailable),
    (P, CALL.UPLOAD_BLOB, 413, (), False, OTHER, Invalid),
    (P, CALL.WRITE_MANIFEST, 413, (), False, FINAL, Invalid),
    (P, CALL.UPLOAD_BLOB, 500, ("UNKNOWN",), False, OTHER, Unavailable),
    (P, CALL.UPLOAD_BLOB, 500, ("disk-full", "UNKNOWN"), False, AGAIN, Unavailable),
    (S, CALL.OTHER, 400, ("TOOMANYREQUESTS",), False, AGAIN, RateLimited),
    (S, CALL.OTHER, 302, (), False, FINAL, Invalid),
    (S, CALL.READ_BLOB, 522, (), False, AGAIN, Unavailable),
]


@pytest.mark.parametrize(("side", "call", "status", "codes", "named", "verdict", "error"), DECISIONS)
def test_an_answer_is_final_passing_or_has_a_way_round(
    side: Side,
    call: RegistryCall,
    status: int,
    codes: tuple[str, ...],
    named: bool,  # noqa: FBT001 - a parameter of pytest
    verdict: Verdict,
    error: type[DockerCacheError],
) -> None:
    rule = rule_for(RefusedAnswer(side, call, status, codes, names_a_time=named))

    assert (rule.verdict, rule.error) == (verdict, error)
