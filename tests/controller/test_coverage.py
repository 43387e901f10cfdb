"""Whether a binding may be out of date: which stagings were seen since the last subscription."""

from controller.coverage import StagingCoverage
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
