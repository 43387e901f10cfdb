"""Plans as files: written and read back, and refused with the number of the line that is broken."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.admin.documents import PlanDocument
from controller.admin.plan_messages import messages_from_plan
from protos.admin import admin_pb2 as pb
from reconcile.errors import Invalid
from reconcile.plan import Plan
from tests.controller.admin.test_messages import MOVE, PROPOSAL, proposals

DOCUMENT = PlanDocument.from_messages(tuple(messages_from_plan(PROPOSAL)))
LINES = DOCUMENT.text().splitlines(keepends=True)
HEADER, END = LINES[0], LINES[-1]


def code_of(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        PlanDocument.from_text(text, "plan.json")
    assert "plan.json" in caught.value.detail
    return caught.value.code


@given(proposal=proposals)
def test_a_plan_comes_back_from_a_file_as_it_was(proposal: Plan) -> None:
    document = PlanDocument.from_messages(tuple(messages_from_plan(proposal)))

    assert PlanDocument.from_text(document.text(), "plan.json") == document


def test_a_file_has_a_header_and_one_entry_a_line() -> None:
    assert HEADER == '{"docker_cache_plan": 1}\n'
    assert len(LINES) == 1 + len(DOCUMENT.entries)


@given(owner=st.text())
def test_an_odd_name_does_not_break_a_line(owner: str) -> None:
    """Some characters end a line only in Unicode's opinion."""
    odd = replace(MOVE, subject=replace(MOVE.subject, owner=replace(MOVE.subject.owner, app=owner)))
    document = PlanDocument.from_messages(
        tuple(messages_from_plan(replace(PROPOSAL, migrations=(odd,), skipped=())))
    )

    assert len(document.text().splitlines()) == 1 + len(document.entries)
    assert PlanDocument.from_text(document.text(), "plan.json").migrations[0]["app_name"] == owner


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "hello",
        "[]",
        "[" * 100_000,
        '{"docker_cache_plan": 2}\n' + END,
        '{"docker_cache_plan": 1, "more": 1}\n' + END,
        "".join(LINES[1:]),
        "\n" + "".join(LINES),
    ],
    ids=["empty", "blank", "text", "list", "deep", "newer", "more", "without header", "header later"],
)
def test_what_does_not_begin_as_a_plan_is_none(text: str) -> None:
    assert code_of(text) == "no-plan"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "1",
        "null",
        '"text"',
        '{"copies": {}}',
        '{"migration": {"app_name": 1}}',
        '{"migration": {}, "copy": {}}',
        '{"migration": {"strategy": "STRATEGY_LATER"}}',
        '{"migration": {"app_name": "\\ud800"}}',
        "[" * 100_000,
    ],
    ids=lambda line: line[:20] or "blank",
)
@pytest.mark.parametrize("number", [2, 3])
def test_a_line_that_is_no_part_of_a_plan_is_named_by_its_number(line: str, number: int) -> None:
    lines = [*LINES[: number - 1], f"{line}\n", *LINES[number - 1 :]]

    with pytest.raises(Invalid, match=rf"plan\.json, line {number}, ") as caught:
        PlanDocument.from_text("".join(lines), "plan.json")

    assert caught.value.code == "no-plan"


@pytest.mark.parametrize("kept", range(1, len(LINES)))
def test_a_file_that_was_cut_after_a_line_is_refused(kept: int) -> None:
    assert code_of("".join(LINES[:kept])) == "plan-cut"


@given(at=st.integers(0, len("".join(LINES)) - 2))
def test_a_file_that_was_cut_anywhere_is_refused(at: int) -> None:
    assert code_of("".join(LINES)[:at]) in {"no-plan", "plan-cut"}


def test_a_plan_that_ends_before_its_end_is_refused() -> None:
    entries = tuple(messages_from_plan(PROPOSAL))

    for cut in (entries[:-1], ()):
        with pytest.raises(Invalid) as caught:
            PlanDocument.from_messages(cut)
        assert caught.value.code == "plan-cut"


def test_a_daemon_gets_all_but_what_is_left_alone() -> None:
    assert [entry.WhichOneof("entry") for entry in DOCUMENT.messages()] == ["copy", "migration", "end"]


def test_its_parts_are_read_as_rows() -> None:
    assert [row["source"] for row in DOCUMENT.copies] == ["registry.example.com/team/app:1"]
    assert [row["strategy"] for row in DOCUMENT.migrations] == ["bridge"]
    assert [row["reason"] for row in DOCUMENT.skipped] == ["pinned-to-source"]
    assert (DOCUMENT.end["goal"], DOCUMENT.end["considered"]) == ("cache", 2)


def test_a_plan_without_anything_but_its_end_is_whole() -> None:
    document = PlanDocument.from_messages([pb.PlanEntry(end=pb.PlanEnd())])

    assert PlanDocument.from_text(document.text(), "plan.json") == document
    assert (document.copies, document.migrations, document.skipped) == ([], [], [])
