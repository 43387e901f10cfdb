import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.leadership.ports import MAX_VALUE, HolderNote, parse_holder

NOTE = HolderNote("docker-cache/0", "a1b2", "10.0.0.5:8910", 1_767_225_600.25, "1.2.3")


def test_the_owner_is_unique_to_a_process() -> None:
    assert NOTE.owner == "docker-cache/0-a1b2"


def test_a_note_survives_its_text() -> None:
    assert parse_holder(NOTE.owner, NOTE.as_text()).note == NOTE


@given(st.text(max_size=5000), st.text(max_size=5000))
def test_every_note_fits_into_a_lock(instance_id: str, admin_address: str) -> None:
    note = replace(NOTE, instance_id=instance_id, admin_address=admin_address)

    assert len(note.as_text()) <= MAX_VALUE
    assert note.as_text().isascii()
    assert parse_holder(note.owner, note.as_text()).note is not None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "cell_z1-0",
        "[" * 4000,
        "null",
        "{}",
        json.dumps({**json.loads(NOTE.as_text()), "since": 3}),
        json.dumps({**json.loads(NOTE.as_text()), "since": "0001-01-01T00:00:00"}),
        json.dumps({**json.loads(NOTE.as_text()), "since": "0001-01-01T00:00:00+14:00"}),
        json.dumps({**json.loads(NOTE.as_text()), "since": "9999-12-31T23:00:00-14:00"}),
        json.dumps({**json.loads(NOTE.as_text()), "version": ["1"]}),
        "x" * 100_000,
    ],
)
def test_the_value_of_another_program_is_no_note(value: str) -> None:
    assert parse_holder("somebody", value).note is None


def test_a_holder_is_named_with_its_address_where_it_has_one() -> None:
    holder = parse_holder(NOTE.owner, NOTE.as_text())

    assert str(holder) == "instance docker-cache/0 at 10.0.0.5:8910 since 2026-01-01T00:00:00+00:00"
    assert str(parse_holder("some\none", "")) == "some one"
