"""What is shown of text that another system sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.foreign_text import clean, cut, one_line


@pytest.mark.parametrize(
    "text",
    [
        "marker-password",
        "Authorization: Basic bWFya2VyLXBhc3N3b3Jk",
        "got bearer eyJhbGciOi.bWFya2VyLXBhc3N3b3Jk.x",
        "https://s3.example/blob?X-Amz-Signature=bWFya2VyLXBhc3N3b3Jk&x=1",
        '{"access_token": "bWFya2VyLXBhc3N3b3Jk"}',
        "password=bWFya2VyLXBhc3N3b3Jk",
        'Get "https://user:bWFya2VyLXBhc3N3b3Jk@registry.example/v2/"',
    ],
)
def test_foreign_text_is_cleaned_of_secrets(text: str) -> None:
    shown = clean(f"before {text} after", ("marker-password",))

    assert "marker-password" not in shown
    assert "bWFya2VyLXBhc3N3b3Jk" not in shown


def test_foreign_text_is_one_short_line() -> None:
    assert clean("a\r\n\x1b[31mb\x00\tc") == "a [31mb c"
    assert len(clean("x" * 1000)) == 256


@given(st.text(max_size=600))
def test_a_text_is_cut_once_to_256_characters(text: str) -> None:
    shown = cut(text)

    assert len(shown) <= 256
    assert shown == text or (len(text) > 256 and shown == f"{text[:255]}…")
    assert cut(shown) == shown


@given(st.text(max_size=600))
def test_one_line_is_printable_and_keeps_what_is_a_short_line_already(text: str) -> None:
    line = one_line(text)

    assert len(line) <= 256
    assert line.isprintable()
    assert one_line(line) == line
