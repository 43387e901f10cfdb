"""Which part of a whole an answer is about."""

import pytest

from controller.registry.oci.ranges import ContentRange, parse_content_range, parse_upload_range


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-0/1", ContentRange(0, 0, 1)),
        ("bytes 010-020/030", ContentRange(10, 20, 30)),
        ("bytes 1000-1010/*", ContentRange(1000, 1010, None)),
    ],
)
def test_a_range_is_read(text: str, expected: ContentRange) -> None:
    assert parse_content_range([text]) == expected


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["bytes 0-0/1", "bytes 0-0/1"],
        *(
            [text]
            for text in (
                "notbytes 1-2/3",
                "bytes ",
                "bytes x-2/3",
                "bytes 1*2/3",
                "bytes 1",
                "bytes 1-",
                "bytes 1-x/3",
                "bytes 1-2",
                "bytes 1-2@3",
                "bytes 1-2/",
                "bytes 1-2/*a",
                "bytes 1-2/3a",
                "bytes 1-2/3\n",
                "bytes ١-2/3",
                f"bytes 0-{'9' * 5000}/1",
            )
        ),
    ],
)
def test_what_names_no_range_is_none(values: list[str]) -> None:
    assert parse_content_range(values) is None


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("0-0", 0),
        ("0-1023", 1024),
        ("bytes=0-1023", 1024),
        (None, 0),
        ("", 0),
        ("5-9", 0),
        ("0-x", 0),
        ("0--1", 0),
    ],
)
def test_how_much_an_upload_holds(text: str | None, held: int) -> None:
    """What can mean nothing and one byte, "0-0", is safer read as nothing."""
    assert parse_upload_range(text) == held
