"""How numbers, sizes and times are written for people."""

import time

import pytest

from controller.commands.words import (
    format_age,
    format_count,
    format_duration,
    format_size,
    format_time,
    format_wait,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (25_200, "25.2 kB"), (3e15, "3000.0 TB")],
)
def test_sizes_are_in_powers_of_ten(count: float | None, text: str) -> None:
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_in_their_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "plural", "text"),
    [
        (1, "apps", "1 app"),
        (1000, "apps", "1,000 apps"),
        (1, "images to copy", "1 image to copy"),
        (1, "entries", "1 entry"),
        (1, "source registries", "1 source registry"),
        (1, "apps skipped", "1 app skipped"),
        (2, "apps not migrated", "2 apps not migrated"),
        (0, "copies", "0 copies"),
    ],
)
def test_counts_have_the_right_noun(count: int, plural: str, text: str) -> None:
    assert format_count(count, plural) == text


def test_times_are_utc_and_never_is_said() -> None:
    assert format_time(0.0) == "1970-01-01 00:00:00"
    assert format_time(None) == ""
    assert format_age(None) == "never"
    assert format_age(time.time() - 120) == "2 min ago"
    assert format_wait(time.time() + 240) == "in 4 min"
    assert format_wait(None) == ""
