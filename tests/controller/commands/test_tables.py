"""How rows are laid out: what people copy is never folded or cut."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.commands.copy_commands import VERIFY_COLUMNS
from controller.commands.listing_commands import APPS, AUDIT, IMAGES, JOBS, MIGRATIONS
from controller.commands.plan_view import COPIES, PINS, RESTORES, SKIPPED
from controller.commands.plan_view import MIGRATIONS as PLANNED
from controller.commands.tables import Column, table_lines

GUID = str(uuid.UUID(int=0x3D9F1A528C1C4E589A1C0B1C8D2F5E77))
PROCESS = f"{GUID}-{GUID}"
SOURCE = "registry.example.com/a-team-with-a-long-name/a-component-with-a-long-name:2026.01.05"
PROSE = "the private registry answered 503 Service Unavailable three times within thirty seconds"

ROW = {
    **dict.fromkeys(("cache_guid", "app_guid", "job_id"), GUID),
    "source": SOURCE,
    "rootfs": f"docker://{SOURCE}",
    "from_rootfs": f"docker://{SOURCE}",
    "to_rootfs": f"docker://cache.example:8080/{GUID}#latest",
    "process_guid": PROCESS,
    "app_name": "a-rather-long-name-of-an-app",
    "org_name": "an-organization",
    "space_name": "production",
    "state": "failed",
    "status": "corrupt",
    "reason": "waiting-for-cloud-controller",
    **dict.fromkeys(("detail", "error", "problem", "outcome", "arguments", "missing"), PROSE),
    **dict.fromkeys(("bytes", "running", "instances", "attempts", "max_attempts", "rounds", "lrps"), 12),
    **dict.fromkeys(("created_at", "verified_at", "updated_at", "at", "started_at", "entered_at"), 1e9),
    **dict.fromkeys(("needs_verification_since", "next_attempt_at", "missing_since"), 1e9),
    "further_sources": ["docker.io/library/something", "registry.example.com/a-team/its-own-component"],
    "progress": None,
    "requests": 5,
    "known": True,
    "strategy": "bridge",
    "phase": "removing-bridge",
    "droplet_phase": "restoring",
    "goal": "cache",
    "call": "ResetCircuitBreaker",
    "caller": "CN=somebody,OU=operators,O=example",
}
TABLES = {
    "images": IMAGES,
    "jobs": JOBS,
    "apps": APPS,
    "migrations": MIGRATIONS,
    "audit": AUDIT,
    "verify": VERIFY_COLUMNS,
    "copies": COPIES,
    "planned": PLANNED,
    "restores": RESTORES,
    "pins": PINS,
    "skipped": SKIPPED,
}
tables = pytest.mark.parametrize("columns", TABLES.values(), ids=TABLES.keys())


@tables
@pytest.mark.parametrize("width", [40, 80, 100, 132, 200, None])
def test_a_row_is_one_line_and_each_cell_is_whole_or_prose(
    columns: tuple[Column, ...], width: int | None
) -> None:
    heading, line = table_lines([ROW], columns, width=width)

    shown = [column for column in columns if column.name.upper() in heading.split()]
    assert shown
    for column in shown:
        text = column.text(ROW)
        assert text in line or (column.is_prose and text[:20] in line), column.name


@tables
def test_at_80_columns_only_what_must_be_shown_is_longer_than_the_terminal(
    columns: tuple[Column, ...],
) -> None:
    _, line = table_lines([ROW], columns, width=80)

    kept = table_lines([ROW], [column for column in columns if not column.priority], width=80)[1]
    assert len(line) <= max(80, len(kept))


@tables
def test_without_a_width_everything_is_shown(columns: tuple[Column, ...]) -> None:
    heading, line = table_lines([ROW], columns, width=None)

    assert heading.split() == [column.name.upper() for column in columns]
    assert "…" not in line


@tables
def test_names_of_columns_are_words_that_can_be_typed(columns: tuple[Column, ...]) -> None:
    names = [column.name for column in columns]

    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalpha() and name.islower() for name in names)


def test_the_least_important_columns_go_first() -> None:
    columns = [
        Column("app", lambda _: "web"),
        Column("one", lambda _: "1" * 20, priority=1),
        Column("two", lambda _: "2" * 20, priority=2),
    ]

    shown = [table_lines([{}], columns, width=width)[0].split() for width in (47, 46, 25, 24, 3)]

    assert shown == [["APP", "ONE", "TWO"], ["APP", "ONE"], ["APP", "ONE"], ["APP"], ["APP"]]


def test_prose_is_cut_before_a_column_is_left_out() -> None:
    columns = [Column("app", lambda _: "web"), Column("why", lambda _: "x" * 99, priority=1, is_prose=True)]

    assert table_lines([{}], columns, width=40)[1] == f"web  {'x' * 34}…"


def test_a_column_without_content_takes_no_room_on_a_terminal() -> None:
    columns = [Column("app", lambda _: "web"), Column("error", lambda _: "", priority=1)]

    assert table_lines([{}], columns, width=80)[0] == "APP"
    assert table_lines([{}], columns, width=None)[0] == "APP  ERROR"


def test_wide_characters_keep_the_columns_in_line() -> None:
    columns = [Column("app", lambda row: row["app"]), Column("state", lambda _: "cached")]

    heading, *lines = table_lines([{"app": "日本"}, {"app": "müller"}], columns, width=80)

    assert heading == "APP     STATE"
    assert lines == ["日本    cached", "müller  cached"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\nb", "a b"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\x00b", "a\\x00b"),
        ("a\u2028b", "a b"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\x1b]8;;http://x\x07b", "a\\x1b]8;;http://x\\x07b"),
    ],
)
def test_what_a_terminal_would_obey_is_written_as_an_escape(text: str, written: str) -> None:
    """Names and messages come from tenants and their registries too."""
    _, line = table_lines([{}], [Column("app", lambda _: text)], width=None)

    assert line == written


@given(
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=4),
    width=st.none() | st.integers(1, 120),
)
def test_whatever_the_texts_are_each_row_is_one_line(texts: list[str], width: int | None) -> None:
    columns = [
        Column("app", lambda row: row["text"]),
        Column("why", lambda row: row["text"] * 3, priority=1, is_prose=True),
    ]

    lines = table_lines([{"text": text} for text in texts], columns, width=width)

    assert len(lines) == 1 + len(texts)
    assert all(len(line.splitlines()) <= 1 for line in lines)
