"""Durations, sizes and addresses, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.values import format_duration, format_size, parse_duration, parse_size
from controller.config_file import is_loopback


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("1m30s", 90.0), ("250ms", 0.25), ("2h", 7200.0), ("1.5s", 1.5)]
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["30", "s", "-1s", "1d", "1s ", 30, True, None, ""])
def test_a_duration_without_a_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="with its unit"):
        parse_duration(value)


@pytest.mark.parametrize("seconds", [0.25, 5.0, 180.0, 604800.0])
def test_a_duration_is_written_as_it_is_read(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(("value", "size"), [(5, 5), ("5", 5), ("4GiB", 4 << 30), ("512 MiB", 512 << 20)])
def test_sizes_are_read_in_bytes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["4GB", "-1", 1.5, True, None, ""])
def test_a_size_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="write a size"):
        parse_size(value)


@given(st.integers(min_value=1, max_value=1 << 60))
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1B"), (16 << 10, "16KiB"), (50 << 30, "50GiB"), (1536 << 20, "1536MiB")]
)
def test_a_size_is_written_in_its_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "[::1]", "localhost", "LOCALHOST"])
def test_a_loopback_address_is_known_as_one(host: str) -> None:
    assert is_loopback(f"{host}:9000")


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "0.0.0.0", "[::]", "[fe80::1]", "127.example", "127.1.example", "localhost.example"]
)
def test_any_other_address_is_not_loopback(host: str) -> None:
    assert not is_loopback(f"{host}:9000")
