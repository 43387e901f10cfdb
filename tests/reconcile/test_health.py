"""When a registry is unhealthy, and when it is well again."""

import pytest

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
from reconcile.health import (
    FEWEST_FAILURES,
    QUIET,
    SHORTEST_FAILURE,
    SHORTEST_REFUSAL,
    Failure,
    Fault,
    UseHealth,
    fault_of,
)

NOW = 100.0
GONE = Unavailable("registry", ErrorCode.CONNECTION, "refused")
BROKEN = Unavailable("registry", "UNKNOWN", "unknown error")
FULL = Unavailable("registry", ErrorCode.DISK_FULL, "no space left on device")
READ_ONLY = Unavailable("registry", ErrorCode.READ_ONLY, "Method not allowed")
REFUSED = Denied("registry", "UNAUTHORIZED", "who are you")


def after(
    *errors: DockerCacheError, repository: str = "a", size: int = 0, status: int = 0, every: float = 6.0
) -> UseHealth:
    """The health after requests about one repository that failed one after the other."""
    health = UseHealth()
    for number, error in enumerate(errors):
        health = health.failed(Failure(error, size, status), repository, now=NOW + number * every)
    return health


FAULTS: list[tuple[DockerCacheError, int, Fault | None]] = [
    (FULL, 500, Fault.DISK_FULL),
    (Unavailable("registry", ErrorCode.QUOTA_EXCEEDED, ""), 403, Fault.QUOTA),
    (READ_ONLY, 405, Fault.READ_ONLY),
    (Unavailable("registry", ErrorCode.STORAGE_FAILED, ""), 500, Fault.STORAGE),
    (Unavailable("registry", ErrorCode.CERTIFICATE, ""), 0, Fault.CERTIFICATE),
    (Unavailable("registry", ErrorCode.NO_TLS, ""), 0, Fault.NO_TLS),
    (Unavailable("registry", ErrorCode.UNKNOWN_HOST, ""), 0, Fault.UNKNOWN_HOST),
    (GONE, 0, Fault.NO_ANSWER),
    (Unavailable("registry", ErrorCode.TIMEOUT, ""), 0, Fault.NO_ANSWER),
    (Unavailable("registry", "http-503", ""), 503, Fault.UNAVAILABLE),
    (Unavailable("registry", "unavailable", "asked to wait", retry_after=60.0), 0, Fault.UNAVAILABLE),
    (BROKEN, 500, Fault.ERRORS),
    (REFUSED, 401, Fault.LOGIN),
    (Denied("registry", ErrorCode.BAD_CREDENTIALS, ""), 0, Fault.LOGIN),
    (RateLimited("registry", "TOOMANYREQUESTS", ""), 429, None),
    (NotFound("registry", "MANIFEST_UNKNOWN", ""), 404, None),
    (Conflict("registry", "x", ""), 409, None),
    (Invalid("registry", ErrorCode.ADDRESS_REFUSED, ""), 0, None),
    (Denied("registry", ErrorCode.REALM_REFUSED, ""), 0, None),
    (Unavailable("registry", ErrorCode.CUT, ""), 0, None),
    (Unavailable("registry", ErrorCode.TOO_SLOW, ""), 0, None),
]


@pytest.mark.parametrize(("error", "status", "fault"), FAULTS)
def test_an_error_says_what_is_wrong_with_the_registry_or_nothing_about_it(
    error: DockerCacheError, status: int, fault: Fault | None
) -> None:
    assert fault_of(error, status) is fault
    assert (after(error, status=status).failing is None) == (fault is None)


@pytest.mark.parametrize(
    "error", [FULL, READ_ONLY, Unavailable("registry", ErrorCode.CERTIFICATE, "expired")]
)
def test_a_registry_that_says_what_is_wrong_is_believed_at_once(error: DockerCacheError) -> None:
    unhealthy = after(error).unhealthy

    assert unhealthy is not None
    assert (unhealthy.since, unhealthy.said) == (NOW, error.detail)


@pytest.mark.parametrize("error", [GONE, BROKEN])
def test_one_that_does_not_is_unhealthy_after_several_failures_over_some_seconds(
    error: DockerCacheError,
) -> None:
    many = [error] * FEWEST_FAILURES
    assert after(*many[1:], every=SHORTEST_FAILURE).unhealthy is None
    assert after(*many, every=SHORTEST_FAILURE / FEWEST_FAILURES).unhealthy is None

    unhealthy = after(*many, every=SHORTEST_FAILURE).unhealthy

    assert unhealthy is not None
    assert (unhealthy.since, unhealthy.count) == (NOW, FEWEST_FAILURES)


def test_one_that_asks_to_be_left_alone_for_long_is_unhealthy() -> None:
    def asked(seconds: float) -> UseHealth:
        return after(Unavailable("registry", "http-503", "maintenance", retry_after=seconds), status=503)

    assert asked(1.0).unhealthy is None
    assert asked(3600.0).unhealthy is not None


def test_a_refused_login_counts_when_it_is_refused_again() -> None:
    """It may have been changed: the new one is looked up at once."""
    assert after(REFUSED).unhealthy is None
    assert after(REFUSED, REFUSED, every=SHORTEST_REFUSAL / 2).unhealthy is None
    assert after(REFUSED, REFUSED, every=SHORTEST_REFUSAL).unhealthy is not None


def test_a_rate_limit_is_no_failure_however_often_it_comes() -> None:
    assert after(*[RateLimited("registry", "TOOMANYREQUESTS", "slow", retry_after=60.0)] * 20).failing is None


@pytest.mark.parametrize(("error", "status"), [(GONE, 0), (BROKEN, 500), (REFUSED, 401), (READ_ONLY, 405)])
def test_a_request_that_goes_well_ends_it(error: DockerCacheError, status: int) -> None:
    health = after(error, error, error, status=status)
    assert health.unhealthy is not None

    health = health.answered("a", stored=None, now=NOW + 60.0)

    assert (health.failing, health.served) == (None, "a")


def test_failures_with_a_good_request_between_them_are_not_in_a_row() -> None:
    health = UseHealth()
    for n in range(20):
        health = health.failed(Failure(GONE), "a", now=NOW + 10.0 * n)
        health = health.answered("a", stored=None, now=NOW + 10.0 * n + 1.0)
        health = health.failed(Failure(GONE), "a", now=NOW + 10.0 * n + 2.0)
        assert health.unhealthy is None


class TestOneImage:
    """A registry of which one image cannot be had."""

    @pytest.mark.parametrize(("error", "status"), [(BROKEN, 500), (REFUSED, 401)])
    def test_it_is_well_while_it_has_served_another(self, error: DockerCacheError, status: int) -> None:
        health = UseHealth().answered("other", stored=None, now=NOW - 60.0)
        for n in range(5):
            health = health.failed(Failure(error, status=status), "a", now=NOW + 10.0 * n)
        assert health.is_suspect
        assert health.unhealthy is None

        health = health.failed(Failure(error, status=status), "b", now=NOW + 60.0)
        assert health.unhealthy is not None, "it is not one image alone"

    def test_it_is_not_when_it_has_served_this_one_or_nothing(self) -> None:
        served = UseHealth().answered("a", stored=None, now=NOW - 60.0)
        for n in range(5):
            served = served.failed(Failure(BROKEN, status=500), "a", now=NOW + 10.0 * n)

        assert served.unhealthy is not None
        assert after(*[BROKEN] * 5, status=500).unhealthy is not None

    @pytest.mark.parametrize(("error", "status"), [(GONE, 0), (Unavailable("registry", "http-503", ""), 503)])
    def test_no_answer_and_a_proxy_without_a_registry_are_not_about_one_image(
        self, error: DockerCacheError, status: int
    ) -> None:
        health = UseHealth().answered("other", stored=None, now=NOW - 60.0)
        for n in range(5):
            health = health.failed(Failure(error, status=status), "a", now=NOW + 10.0 * n)

        assert health.unhealthy is not None


class TestFullDisk:
    """A registry whose disk is full: what is small may still have room, and an upload starts."""

    def test_an_upload_that_starts_is_no_proof_of_room(self) -> None:
        assert after(FULL, size=1000).answered("a", stored=None, now=NOW + 1.0).unhealthy is not None
        assert after(FULL).answered("a", stored=None, now=NOW + 1.0).unhealthy is not None

    def test_neither_is_a_smaller_blob(self) -> None:
        assert after(FULL, size=1000).answered("a", stored=999, now=NOW + 1.0).unhealthy is not None

    def test_one_that_is_as_large_is(self) -> None:
        assert after(FULL, FULL, size=1000).answered("a", stored=1000, now=NOW + 20.0).failing is None

    def test_a_smaller_one_is_when_nobody_has_met_a_full_disk_for_long(self) -> None:
        health = after(FULL, size=1000)

        assert health.answered("a", stored=64, now=NOW + QUIET - 1.0).unhealthy is not None
        assert health.answered("a", stored=None, now=NOW + QUIET).unhealthy is not None
        assert health.answered("a", stored=64, now=NOW + QUIET).failing is None

    def test_the_largest_counts(self) -> None:
        health = after(FULL, size=1000).failed(Failure(FULL, 10), "a", now=NOW + 1.0)

        assert health.answered("a", stored=10, now=NOW + 2.0).unhealthy is not None


def test_an_upload_that_fails_is_not_mended_by_one_that_starts() -> None:
    health = after(BROKEN, BROKEN, BROKEN, size=1000, status=500)

    assert health.answered("a", stored=None, now=NOW + 30.0).unhealthy is not None
    assert health.answered("a", stored=10, now=NOW + 30.0).failing is None


def test_what_was_said_is_one_short_line() -> None:
    failing = after(Unavailable("registry", ErrorCode.DISK_FULL, "full\n" + "x" * 5000)).failing

    assert failing is not None
    assert "\n" not in failing.said
    assert len(failing.said) <= 256
