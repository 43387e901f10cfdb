"""What is kept of the health of registries, and for how many of them."""

import threading

import pytest

from controller.health import MOST_SOURCES, HealthStates
from reconcile.errors import Denied, ErrorCode, RateLimited, Unavailable
from reconcile.health import Exchange, Failure, RegistryUse

CACHE = "cache.example:8080"
GONE = Failure(Unavailable("registry", ErrorCode.CERTIFICATE, "expired"))
FULL = Failure(Unavailable("registry", ErrorCode.DISK_FULL, "no space left on device"))
REFUSED = Failure(Denied("registry", "UNAUTHORIZED", "no"), status=401)


def asked(registry: str, use: RegistryUse = RegistryUse.PULL, *, has_login: bool = False) -> Exchange:
    return Exchange(registry, "a/b", use, has_operators_login=has_login)


class Clock:
    """A clock that goes on by itself."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


def states() -> HealthStates:
    return HealthStates("Cache.Example:8080", ["Configured.example"], Clock())


def test_pulls_and_pushes_of_the_private_registry_are_told_apart() -> None:
    health = states()

    health.failed(asked(CACHE, RegistryUse.PUSH), FULL)
    health.answered(asked(CACHE), None)

    assert health.private.push.unhealthy is not None
    assert health.private.pull.unhealthy is None
    assert health.why_not_migrate() is None
    assert health.sources == {}


def test_lrps_are_kept_from_it_while_it_is_unhealthy_for_pulls_and_let_go_once() -> None:
    health = states()
    assert health.why_not_migrate() is None
    assert not health.take_kept_lrps(), "none was kept"

    health.probe_failed(asked(CACHE), GONE)

    problem = health.why_not_migrate()
    assert problem == "the private registry is unhealthy for pulls: its certificate is not accepted: expired"
    assert health.problem_of_pulls() == problem
    seen = [(health.serves_pulls, health.take_kept_lrps())]

    health.answered(asked(CACHE), None)
    seen += [(health.serves_pulls, health.take_kept_lrps()) for _ in range(2)]
    assert seen == [(False, False), (True, True), (True, False)]


def test_a_registry_that_refuses_the_login_is_unhealthy_and_yet_answers() -> None:
    health = states()
    for _ in range(2):
        health.probe_failed(asked(CACHE), REFUSED)

    assert health.why_not_migrate() is not None
    assert health.serves_pulls


OWN_FAILURES = [
    (ErrorCode.CONNECTION, 0),
    (ErrorCode.TIMEOUT, 0),
    (ErrorCode.TOO_SLOW, 0),
    (ErrorCode.UNKNOWN_HOST, 0),
    ("http-500", 500),
    ("UNAVAILABLE", 503),
]


@pytest.mark.parametrize(("code", "status"), OWN_FAILURES)
def test_only_a_probe_shows_that_the_private_registry_serves_no_pulls(code: str, status: int) -> None:
    health, failure = states(), Failure(Unavailable("registry", code, "no"), status=status)

    for _ in range(50):
        health.failed(asked(CACHE), failure)
    assert health.serves_pulls, "copies and looks of tenants' images have failed"

    health.probe_failed(asked(CACHE), failure)
    seen = [health.serves_pulls]
    health.answered(asked(CACHE), None)  # whoever pulled something has shown that it serves
    assert [*seen, health.serves_pulls] == [False, True]


@pytest.mark.parametrize("code", [ErrorCode.BUSY, ErrorCode.OUT_OF_RESOURCES])
def test_what_this_process_lacks_is_no_failure_of_any_registry(code: ErrorCode) -> None:
    health, failure = states(), Failure(Unavailable("registry", code, "all 4 connections are in use"))

    for registry in (CACHE, "source.example"):
        for _ in range(50):
            health.failed(asked(registry), failure)
    health.probe_failed(asked(CACHE), failure)

    assert health.serves_pulls
    assert health.why_not_migrate() is None
    assert health.private.pull.failing is None
    assert health.sources["source.example"].pull.failing is None


def test_the_probe_of_a_push_says_nothing_about_pulls() -> None:
    health = states()
    health.probe_failed(asked(CACHE, RegistryUse.PUSH), GONE)
    assert health.serves_pulls


def test_the_login_of_one_app_says_nothing_about_its_source() -> None:
    health = states()
    for _ in range(5):
        health.failed(asked("source.example"), REFUSED)
    assert health.sources == {}

    for _ in range(5):
        health.failed(asked("source.example", has_login=True), REFUSED)
    assert health.sources["source.example"].pull.unhealthy is not None


def test_a_source_that_limits_the_rate_of_its_only_image_is_well() -> None:
    health = states()
    limited = Failure(RateLimited("registry", "TOOMANYREQUESTS", "slow", retry_after=600.0), status=429)
    for _ in range(50):
        health.failed(asked("source.example"), limited)

    assert health.sources["source.example"].pull.failing is None


def test_a_source_is_known_once_it_has_served_something_or_when_it_is_configured() -> None:
    health = states()
    health.failed(asked("source.example"), GONE)
    assert not health.is_known("source.example")
    assert health.is_known("configured.example")

    health.answered(asked("source.example"), None)
    assert health.is_known("source.example")


def test_the_sources_asked_least_recently_are_forgotten_and_the_private_registry_never() -> None:
    health = states()
    health.failed(asked(CACHE), GONE)
    for n in range(MOST_SOURCES):
        health.failed(asked(f"source-{n}.example"), GONE)
    health.answered(asked("source-0.example"), None)

    for n in range(10):
        health.failed(asked(f"other-{n}.example"), GONE)

    assert len(health.sources) == MOST_SOURCES
    assert "source-0.example" in health.sources
    assert "source-1.example" not in health.sources
    assert health.private.pull.unhealthy is not None


def test_many_threads_may_report_at_the_same_time() -> None:
    health = HealthStates(CACHE)

    def report(number: int) -> None:
        for n in range(200):
            health.failed(asked(f"source-{number}-{n % 50}.example"), GONE)
            health.failed(asked(CACHE), GONE)

    threads = [threading.Thread(target=report, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    failing = health.private.pull.failing
    assert failing is not None
    assert failing.count == 8 * 200
    assert len(health.sources) == MOST_SOURCES
