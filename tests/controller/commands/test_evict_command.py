"""What is shown, asked and deleted by `evict`, with a daemon that is made up."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import click
import pytest

from controller.admin.admin_client import AdminClient
from controller.commands.evict_command import DELETIONS_PENDING, Deleting, NotAllDeleted, plan_and_delete
from controller.commands.output import Output


def planned(name: str, verdict: str = "deletable", detail: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "cache_guid": name,
        "source": f"r.example/{name}:1",
        "url": f"cache.example/{name}:latest",
        "bytes": 1000,
        "verdict": verdict,
        "detail": detail,
        "deletable_from": None,
        "unused_since": 1.0,
        **fields,
    }


class Client:
    """A daemon with a plan; it refuses to delete some copies nevertheless."""

    def __init__(self, *plan: dict[str, Any], refused: Sequence[str] = ()) -> None:
        self._plan, self._refused = plan, refused
        self.deleted: list[str] = []

    async def plan_eviction(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return [row for row in self._plan if not names or row["name"] in names]

    async def evict(self, names: Sequence[str]) -> AsyncGenerator[dict[str, Any], None]:
        for name in names:
            is_deleted = name not in self._refused
            self.deleted += [name] if is_deleted else []
            error = "" if is_deleted else f"admin: image-in-use: {name} is used"
            url = f"cache.example/{name}:latest"
            yield {"cache_guid": name, "url": url, "bytes": 1000, "deleted": is_deleted, "error": error}


def evict(client: Client, *names: str, is_dry: bool = False, is_sure: bool = True) -> int:
    deleting = Deleting(names, is_dry=is_dry, is_sure=is_sure)
    return asyncio.run(plan_and_delete(Output("text"), cast(AdminClient, client), deleting))


def test_unused_copies_are_deleted_and_the_others_are_shown_with_why_they_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Client(
        planned("a"),
        planned("b", "in-use", "used by LRP p-1", unused_since=None),
        planned(
            "c", "too-soon", "first seen unused 5 s ago; 600 s are required", deletable_from=1_800_000_000.0
        ),
    )

    assert evict(client) == 0

    out = capsys.readouterr().out
    assert client.deleted == ["a"]
    assert "used by LRP p-1" in out
    assert "2027-01-15 08:00:00 UTC" in out
    assert "1 copy can be deleted; the registry's garbage collection frees up to 1.0 kB" in out
    assert "deleted cache.example/a:latest" in out


def test_a_dry_run_deletes_nothing_and_its_status_says_whether_there_is_something_to_delete() -> None:
    client = Client(planned("a"))

    assert evict(client, is_dry=True) == DELETIONS_PENDING
    assert evict(Client(planned("a", "in-use")), is_dry=True) == 0
    assert client.deleted == []


def test_nothing_is_deleted_without_an_answer() -> None:
    client = Client(planned("a"))

    with pytest.raises(click.UsageError, match="give --yes"):
        evict(client, is_sure=False)

    assert client.deleted == []


def test_each_named_copy_is_deleted_or_refused_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(planned("a"), planned("b", "in-use", "used by LRP p-1"), planned("c"), refused=["c"])

    with pytest.raises(NotAllDeleted, match="2 of 3 copies were not deleted"):
        evict(client, "a", "b", "c")

    captured = capsys.readouterr()
    assert client.deleted == ["a"]
    assert "deleted cache.example/a:latest" in captured.out
    assert captured.err == "b: used by LRP p-1\nc: admin: image-in-use: c is used\n"


def test_a_single_refusal_is_the_error_itself() -> None:
    with pytest.raises(NotAllDeleted, match="a: used by LRP p-1"):
        evict(Client(planned("a", "in-use", "used by LRP p-1")), "a")


def test_that_no_copy_is_unused_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert evict(Client(planned("a", "in-use", "used by LRP p-1"))) == 0

    assert "no copy can be deleted" in capsys.readouterr().out
