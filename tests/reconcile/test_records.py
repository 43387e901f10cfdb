"""How a cache job's state may change, why it failed, and how requesters are named."""

from itertools import product

import pytest

from reconcile.errors import Conflict, ErrorCode
from reconcile.lrps import ProcessGuid, TaskGuid
from reconcile.reasons import Reason
from reconcile.records import (
    JOB_CHANGES,
    CacheJob,
    JobId,
    JobState,
    check_change,
    is_of_lrp,
    requester_of_lrp,
    requester_of_task,
)
from reconcile.references import parse_image_reference

ALLOWED = {
    (JobState.QUEUED, JobState.COPYING),
    (JobState.QUEUED, JobState.FAILED),
    (JobState.COPYING, JobState.QUEUED),
    (JobState.COPYING, JobState.CACHED),
    (JobState.COPYING, JobState.FAILED),
}


@pytest.mark.parametrize(("before", "after"), sorted(ALLOWED))
def test_a_job_changes_along_the_table(before: JobState, after: JobState) -> None:
    check_change(before, after)


@pytest.mark.parametrize(("before", "after"), sorted(set(product(JobState, repeat=2)) - ALLOWED))
def test_a_job_changes_in_no_other_way(before: JobState, after: JobState) -> None:
    with pytest.raises(Conflict, match=f"a {before} job cannot become {after}") as error:
        check_change(before, after)

    assert (error.value.system, error.value.code) == ("store", "illegal-change")


def test_every_state_has_its_changes_and_every_job_can_end() -> None:
    assert set(JOB_CHANGES) == set(JobState)
    for state, following in JOB_CHANGES.items():
        assert not following or JobState.FAILED in following, state


def test_requesters_of_tasks_and_lrps_never_meet() -> None:
    assert requester_of_task(TaskGuid("a")) == "task:a"
    assert requester_of_lrp(ProcessGuid("a")) == "lrp:a"
    assert is_of_lrp("lrp:a")
    assert not is_of_lrp("task:lrp:a")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (
            "credentials-lost: neither the staging task nor an LRP brought them back",
            ErrorCode.CREDENTIALS_LOST,
        ),
        ("timeout: registry.example: slow", "timeout"),
        ("interrupted", "interrupted"),
        ("", ""),
    ],
)
def test_a_job_knows_the_code_of_its_failure(failure: str, code: str) -> None:
    source = parse_image_reference("team/app:1")
    job = CacheJob(JobId("j"), source, JobState.FAILED, Reason.STAGING_TASK, 0.0, 0.0, failure=failure)

    assert job.failure_code == code


@pytest.mark.parametrize("state", JobState)
def test_a_job_is_open_until_it_cannot_change_any_more(state: JobState) -> None:
    job = CacheJob(JobId("j"), parse_image_reference("a/b"), state, Reason.STAGING_TASK, 0.0, 0.0)

    assert job.is_open == bool(JOB_CHANGES[state])
