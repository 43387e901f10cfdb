"""How long nobody asks a Cloud Controller that fails or refuses."""

import pytest

from controller.droplets.standing import ApiStanding
from controller.process import Process
from reconcile.errors import Denied, Unavailable

DENIED = Denied("cloud-controller", "cloud-controller-token-refused", "401")
FAILED = Unavailable("cloud-controller", "cloud-controller-failed", "503")


@pytest.fixture
def standing() -> ApiStanding:
    return ApiStanding(
        Process("run"),
        failure_pause=lambda failures: 0.01 * failures,
        refusal_pause=lambda failures: 100.0 * failures,
    )


async def test_what_failed_at_the_same_time_makes_nobody_wait_longer(standing: ApiStanding) -> None:
    """Six requests were under way when UAA got another key: that is one refusal and not six in a row."""
    for _ in range(6):
        standing.note_failure(DENIED)

    assert 0.0 < standing.seconds_left <= 100.0
    assert standing.refusal is DENIED


async def test_what_fails_after_the_wait_makes_the_next_one_longer(standing: ApiStanding) -> None:
    standing.note_failure(FAILED)
    await standing.wait()
    standing.note_failure(FAILED)

    assert 0.01 < standing.seconds_left <= 0.02
    standing.note_answer()
    assert standing.seconds_left == 0.0
    assert standing.problem is None
