"""How a job is described to somebody who follows it, and what several evictions come to."""

import asyncio
import time
from typing import Any, cast

import pytest

from controller.admin.admin_client import AdminClient
from controller.commands.copy_commands import _evict, describe_job
from controller.commands.output import Output
from reconcile.errors import Conflict, NotFound, Unavailable


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


class Client:
    def __init__(self, **answers: Exception | None) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def evict(self, name: str) -> dict[str, Any]:
        self.asked.append(name)
        error = self._answers[name]
        if error is not None:
            raise error
        return {"cache_guid": name, "url": f"cache.example/{name}:latest", "bytes": 1000}


def evict(client: Client, *names: str) -> None:
    asyncio.run(_evict(Output("text"), cast(AdminClient, client), names))


def test_each_copy_is_deleted_or_refused_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(a=None, b=Conflict("admin", "image-in-use", "b is used"), c=None)

    with pytest.raises(Conflict, match="1 of 3 copies was not deleted"):
        evict(client, "a", "b", "c")

    captured = capsys.readouterr()
    assert client.asked == ["a", "b", "c"]
    assert "deleted cache.example/a:latest" in captured.out
    assert "deleted cache.example/c:latest" in captured.out
    assert captured.err == "b: admin: image-in-use: b is used\n"


def test_a_single_refusal_is_the_error_itself() -> None:
    with pytest.raises(NotFound, match="no-such-image"):
        evict(Client(a=NotFound("admin", "no-such-image", "x")), "a")


def test_a_daemon_that_does_not_answer_is_not_asked_again() -> None:
    client = Client(a=Unavailable("admin", "no-answer", "x"), b=None)

    with pytest.raises(Unavailable):
        evict(client, "a", "b")

    assert client.asked == ["a"]
