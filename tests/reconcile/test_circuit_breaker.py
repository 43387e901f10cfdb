"""When migrations may start no more, and when they may again."""

import pytest

from reconcile.circuit_breaker import (
    MOST_SCOPES,
    PROBE_CHECK_INTERVAL,
    CircuitBreaker,
    CircuitBreakers,
    MigrationSubject,
)
from reconcile.failure_spread import Cause

CLOSED = CircuitBreaker(max_failures=2, retry_after=60.0)
ONE, TWO, THREE = (Cause(f"org-{n}", f"image-{n}") for n in range(3))


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    once = CLOSED.failed("a: bridge-crashed", 10.0, ONE)
    assert not once.is_open
    assert not once.succeeded().failed("b", 11.0, TWO).is_open, "a success in between starts the count anew"

    opened = once.failed("b: bridge-timeout", 11.0, TWO)

    assert opened.is_open
    assert "b: bridge-timeout" in str(opened)
    assert opened.seconds_until_allowed(11.0) == 60.0


def test_after_a_while_one_probe_is_allowed() -> None:
    opened = CLOSED.failed("a", 0.0, ONE).failed("b", 0.0, TWO)
    assert opened.seconds_until_allowed(60.0) == 0.0

    probing = opened.started()

    assert probing.seconds_until_allowed(60.0) == PROBE_CHECK_INTERVAL
    assert not probing.succeeded().is_open
    assert probing.failed("c", 61.0, THREE).seconds_until_allowed(61.0) == 60.0
    assert probing.failed("c", 61.0, ONE).is_open, (
        "the probe has failed, whatever it has in common with others"
    )
    assert probing.cancelled().seconds_until_allowed(61.0) == 0.0, "a cancelled probe makes room for another"


def test_a_closed_one_allows_all() -> None:
    assert CLOSED.started().seconds_until_allowed(0.0) == 0.0
    assert not CLOSED.started().is_probing


@pytest.mark.parametrize(
    ("first", "second"), [(ONE, ONE), (ONE, Cause("org-0", "image-7")), (ONE, Cause("org-7", "image-0"))]
)
def test_failures_that_have_something_in_common_count_once(first: Cause, second: Cause) -> None:
    seen = CLOSED
    for _ in range(50):
        seen = seen.failed("a", 0.0, first).failed("b", 0.0, second)

    assert (seen.failures, seen.is_open) == (1, False)


def test_one_that_was_opened_by_a_clock_that_was_years_ahead_allows_a_probe() -> None:
    years = 10 * 365 * 86_400.0
    opened = CLOSED.failed("a", years, ONE).failed("b", years, TWO)
    assert opened.seconds_until_allowed(1000.0) == 0.0


def test_a_cell_on_which_all_failures_were_met_is_named() -> None:
    one = CLOSED.failed("a", 0.0, ONE, frozenset({"cell-7"})).failed("b", 0.0, TWO, frozenset({"cell-7"}))
    assert (one.only_cell, str(one)) == (
        "cell-7",
        "2 migrations in a row failed, all on cell cell-7, the last one: b",
    )
    assert one.failed("c", 0.0, THREE, frozenset({"cell-8"})).only_cell == ""
    assert CLOSED.failed("a", 0.0, ONE).only_cell == ""


def subject(app: str, organization: str = "acme", image: str = "web") -> MigrationSubject:
    return MigrationSubject(app, organization, image)


def failed(*subjects: MigrationSubject, max_failures: int = 3) -> CircuitBreakers:
    breakers = CircuitBreakers(CircuitBreaker(max_failures, 60.0))
    for each in subjects:
        breakers.failed(each, f"{each.app}: bridge-crashed", 0.0)
    return breakers


def waits(breakers: CircuitBreakers, who: MigrationSubject, now: float = 0.0) -> float:
    found = breakers.set_aside_for(who, now)
    return 0.0 if found is None else found[1]


class TestThoseWhoAreSetAside:
    """Their failures speak against them alone."""

    def test_apps_of_one_organization_with_one_image_wait_and_all_others_go_on(self) -> None:
        breakers = failed(*(subject(app) for app in "abc"))

        assert not breakers.overall.is_open
        assert waits(breakers, subject("d")) == 60.0
        assert waits(breakers, subject("d", image="other")) == 0.0, "the organization's other image"
        assert waits(breakers, subject("d", "umbrella")) == 0.0, "another organization with the same image"
        (aside,) = breakers.set_aside
        assert str(aside) == (
            "3 migrations of organization acme to copy web in a row failed, the last one: c: bridge-crashed"
        )

    def test_one_app_that_fails_again_and_again_sets_nobody_else_aside(self) -> None:
        breakers = failed(*[subject("a")] * 20)

        assert breakers.set_aside == ()
        assert breakers.overall.failures == 1

    def test_an_organization_whose_images_fail_one_after_the_other_waits(self) -> None:
        breakers = failed(*(subject(name, image=name) for name in "abc"))

        assert not breakers.overall.is_open
        assert waits(breakers, subject("d", image="d")) == 60.0
        assert waits(breakers, subject("d", "umbrella", "a")) == 0.0
        assert str(breakers.set_aside[0]).startswith("3 migrations of organization acme in a row failed")

    def test_an_image_that_fails_in_one_organization_after_the_other_waits(self) -> None:
        breakers = failed(*(subject(name, name) for name in "abc"))

        assert not breakers.overall.is_open
        assert waits(breakers, subject("d", "d")) == 60.0
        assert waits(breakers, subject("d", "a", "other")) == 0.0
        assert str(breakers.set_aside[0]).startswith("3 migrations to copy web in a row failed")

    def test_when_failures_spread_no_migration_starts(self) -> None:
        breakers = failed(*(subject(name, name, name) for name in "abc"))

        assert breakers.overall.is_open
        assert breakers.set_aside == ()

    def test_after_a_while_one_probe_is_allowed_and_its_success_ends_it(self) -> None:
        breakers = failed(*(subject(app) for app in "abc"))
        assert waits(breakers, subject("d"), 60.0) == 0.0

        breakers.started(subject("d"))
        assert waits(breakers, subject("e"), 60.0) == PROBE_CHECK_INTERVAL
        breakers.cancelled(subject("d"))
        assert waits(breakers, subject("e"), 60.0) == 0.0

        breakers.started(subject("e"))
        breakers.succeeded(subject("e"))
        assert breakers.set_aside == ()
        assert waits(breakers, subject("f"), 60.0) == 0.0

    def test_the_success_of_others_does_not_end_it(self) -> None:
        breakers = failed(*(subject(app) for app in "abc"))
        breakers.succeeded(subject("x", "umbrella", "other"))
        assert waits(breakers, subject("d")) == 60.0

    def test_an_operator_ends_all_of_it(self) -> None:
        breakers = failed(*(subject(app) for app in "abc"), *(subject(name, name, name) for name in "abc"))
        breakers.close_all()
        assert (breakers.set_aside, breakers.overall.failures, breakers.overall.is_open) == ((), 0, False)

    def test_so_many_failures_are_remembered_and_no_more(self) -> None:
        breakers = failed(*(subject(str(n), str(n), "same") for n in range(2 * MOST_SCOPES)))
        assert len(breakers._breakers) <= MOST_SCOPES
        assert waits(breakers, subject("x", "x", "same")) == 60.0, "it has failed last"
        assert not breakers.overall.is_open
