"""How a cache job's state may change, and how original_sources are named."""

from itertools import product

import pytest

from reconcile.errors import Conflict
from reconcile.lrps import ProcessGuid, TaskGuid
from reconcile.records import (
    JOB_CHANGES,
    JobState,
    check_change,
    is_of_lrp,
    requester_of_lrp,
    requester_of_task,
)

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


def test_origins_of_tasks_and_lrps_never_meet() -> None:
    assert requester_of_task(TaskGuid("a")) == "task:a"
    assert requester_of_lrp(ProcessGuid("a")) == "lrp:a"
    assert is_of_lrp("lrp:a")
    assert not is_of_lrp("task:lrp:a")
