"""What operators do is noted in the log and in the store, in one of them at least."""

import json
from dataclasses import dataclass, field

import pytest

from controller.admin.audit import MAX_ARGUMENT_CHARACTERS, Audit
from controller.store.opening import Store
from reconcile.errors import Unavailable
from reconcile.records import AuditEntry
from tests.stores import open_store

NOW = 1_800_000_000.0


@dataclass
class Entries:
    """Keeps entries, unless it is full."""

    kept: list[AuditEntry] = field(default_factory=list)
    is_full: bool = False

    async def add_entry(self, entry: AuditEntry) -> None:
        if self.is_full:
            raise Unavailable("store", "disk-full", "no space left")
        self.kept.append(entry)


def audit(entries: Entries) -> Audit:
    return Audit(entries, clock=lambda: NOW)


def logged(output: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in output.splitlines()]
    return [{"level": line["level"], "message": line["message"], **line["data"]} for line in lines]


async def test_a_call_is_kept_with_its_caller_its_arguments_and_what_came_of_it() -> None:
    entries = Entries()

    await audit(entries).note("CN=ops", "Evict", {"b": [1], "a": "x"}, "done")

    assert entries.kept == [AuditEntry(NOW, "CN=ops", "Evict", '{"a": "x", "b": [1]}', "done")]


async def test_a_call_stands_in_the_log_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    await audit(Entries()).note("CN=ops", "Pause", {}, "done")

    (line,) = logged(capsys.readouterr().out)
    assert line == {
        "level": "info",
        "message": "docker-cache.admin.finished-call",
        "caller": "CN=ops",
        "call": "Pause",
        "arguments": "{}",
        "outcome": "done",
    }


async def test_a_store_that_takes_no_entry_costs_neither_the_call_nor_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    await audit(Entries(is_full=True)).note("CN=ops", "Resume", {}, "done")

    called, failed = logged(capsys.readouterr().out)
    assert (called["message"], called["call"]) == ("docker-cache.admin.finished-call", "Resume")
    assert (failed["message"], failed["level"]) == ("docker-cache.admin.failed-to-save-audit-entry", "error")


async def test_a_bug_in_the_store_is_not_hidden() -> None:
    class Broken:
        async def add_entry(self, entry: AuditEntry) -> None:
            raise TypeError("a bug")

    with pytest.raises(TypeError):
        await Audit(Broken()).note("CN=ops", "Resume", {}, "done")


async def test_arguments_that_are_too_long_are_cut() -> None:
    entries = Entries()

    await audit(entries).note("CN=ops", "Restore", {"orgs": ["o" * 10_000]}, "done")

    (entry,) = entries.kept
    assert len(json.loads(entry.arguments)["truncated"]) == MAX_ARGUMENT_CHARACTERS, "it is JSON all the same"


async def test_what_was_noted_is_listed_the_latest_first() -> None:
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as store:
        for outcome in ("first", "second"):
            await Audit(store.operations, clock=lambda: NOW).note("CN=ops", "Pause", {}, outcome)

        assert [entry.outcome for entry in await store.operations.list_entries()] == ["second", "first"]


async def test_a_store_that_is_closed_costs_no_call(capsys: pytest.CaptureFixture[str]) -> None:
    """The last calls end while the daemon does."""
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as opened:
        store: Store = opened

    await Audit(store.operations).note("CN=ops", "Pause", {}, "interrupted")

    assert "interrupted" in capsys.readouterr().out
