"""Credentials of jobs in memory, and how long a job waits for those that a restart has lost."""

from controller.cacher.credentials import CHECK_INTERVAL, MAX_CHECKS, JobCredentials
from reconcile.lrps import Credentials, Secret
from reconcile.reasons import Reason
from reconcile.records import CacheJob, JobId, JobState
from reconcile.references import parse_image_reference

LOGIN = Credentials("robot", Secret("password"))
OTHER = Credentials("robot", Secret("other"))


def job(*, needs_credentials: bool) -> CacheJob:
    source = parse_image_reference("team/app:1")
    return CacheJob(
        JobId("j"),
        source,
        JobState.QUEUED,
        Reason.STAGING_TASK,
        0.0,
        0.0,
        needs_credentials=needs_credentials,
    )


def test_only_requests_with_the_same_credentials_share_a_job() -> None:
    credentials, private, public = JobCredentials(), job(needs_credentials=True), job(needs_credentials=False)
    assert not credentials.may_share(private, LOGIN), "nobody knows any more with which it was asked for"
    assert credentials.may_share(public, None)
    assert not credentials.may_share(public, LOGIN)

    credentials.put(private.job_id, LOGIN)

    assert credentials.may_share(private, LOGIN)
    assert not credentials.may_share(private, OTHER)
    assert not credentials.may_share(private, None)


def test_credentials_are_missing_until_they_come_back_and_after_they_are_forgotten() -> None:
    credentials, private = JobCredentials(), job(needs_credentials=True)
    assert credentials.are_missing(private)
    assert not credentials.are_missing(job(needs_credentials=False))

    credentials.put(private.job_id, LOGIN)
    assert not credentials.are_missing(private)
    assert credentials.find(private.job_id) == LOGIN

    credentials.forget(private.job_id)
    assert credentials.find(private.job_id) is None


def test_a_job_checks_so_often_and_no_more() -> None:
    credentials = JobCredentials()
    checks = [credentials.seconds_until_next_check(JobId("j")) for _ in range(MAX_CHECKS + 1)]

    assert checks == [CHECK_INTERVAL] * MAX_CHECKS + [None]
