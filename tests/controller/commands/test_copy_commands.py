"""How a job is described to somebody who follows it."""

import time
from typing import Any

from controller.commands.listing_commands import describe_job


def job(state: str, **fields: Any) -> dict[str, Any]:
    made = {"source": "r.example/a:1", "state": state, "attempts": 2, "max_attempts": 12, "error": ""}
    return {**made, "next_attempt_at": None, "progress": None, **fields}


def test_each_state_says_which_attempt_it_is_and_what_comes_next() -> None:
    retry = time.time() + 90

    assert describe_job(job("queued")) == "r.example/a:1: queued"
    assert describe_job(job("copying")) == "r.example/a:1: copying, attempt 2 of 12"
    assert describe_job(job("cached")) == "r.example/a:1: cached"
    assert describe_job(job("failed", error="x")) == "r.example/a:1: failed after 2 attempts"
    assert describe_job(job("queued", error="timeout: no answer", next_attempt_at=retry)) == (
        "r.example/a:1: attempt 2 of 12 failed: timeout: no answer; next attempt in 1 min"
    )
