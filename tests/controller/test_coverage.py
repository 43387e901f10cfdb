"""Whether a binding may be out of date: which stagings were seen since the last subscription."""

from dataclasses import replace

from controller.coverage import MAX_STAGINGS, StagingCoverage
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.records import Binding, CacheRequest, JobId
from reconcile.references import parse_image_reference

APP = AppGuid("app-1")
SOURCE = parse_image_reference("team/app:1").canonical()


def request(staged_at: int) -> CacheRequest:
    return CacheRequest(APP, SOURCE, f"task:{staged_at}", staged_at, Reason.STAGING_TASK)


def binding(staged_at: int) -> Binding:
    return Binding(APP, SOURCE, f"task:{staged_at}", staged_at, JobId("job"))


def test_a_binding_from_before_the_subscription_is_not_current() -> None:
    assert not StagingCoverage().is_current(binding(5))


def test_the_newest_staging_seen_is_current_and_an_older_one_is_not() -> None:
    coverage = StagingCoverage()
    coverage.record(request(7))
    coverage.record(request(5))

    assert coverage.is_current(binding(7))
    assert not coverage.is_current(binding(5))


def test_a_gap_makes_all_that_was_seen_uncertain() -> None:
    coverage = StagingCoverage()
    coverage.record(request(7))
    coverage.restart()

    assert not coverage.is_current(binding(7))


def test_a_staging_that_failed_leaves_no_mark() -> None:
    coverage = StagingCoverage()
    for staged_at in (5, 7):
        coverage.record(request(staged_at))
    coverage.forget("task:7")

    assert coverage.is_current(binding(5))

    coverage.forget("task:5")
    assert not coverage.is_current(binding(5)), "nothing was seen since the subscription"


def test_what_an_lrp_has_asked_for_is_current_whatever_was_staged_before_it() -> None:
    """Otherwise it would ask again and again where the binding of a staging is gone."""
    coverage = StagingCoverage()
    coverage.record(request(7))
    coverage.record(replace(request(0), requester="lrp:p"))

    assert coverage.is_current(binding(0))


def test_what_a_droplet_has_asked_for_says_nothing_of_later_stagings() -> None:
    """It may be one to roll back to, and is older than a staging that was missed."""
    coverage = StagingCoverage()
    coverage.record(replace(request(7), requester="droplet:d"))
    assert not coverage.is_current(binding(7))

    coverage.record(request(5))
    coverage.record(replace(request(7), requester="droplet:d"))
    assert coverage.is_current(binding(5))


def test_one_app_that_is_staged_without_end_is_not_remembered_without_end() -> None:
    coverage = StagingCoverage()
    for staged_at in range(10 * MAX_STAGINGS):
        coverage.record(request(staged_at))
    for staged_at in range(9 * MAX_STAGINGS, 10 * MAX_STAGINGS):
        coverage.forget(f"task:{staged_at}")

    assert not coverage.is_current(binding(9 * MAX_STAGINGS - 1)), "asked once more, and never wrongly used"
