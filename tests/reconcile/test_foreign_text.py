"""What is shown of text that another system sent."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.foreign_text import (
    MAX_FOREIGN_TEXT,
    MAX_READ,
    clean,
    cut,
    mask_login,
    mask_logins,
    one_line,
    shown,
    split_login,
)

DIGEST = f"sha256:{'a' * 64}"


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
        "https://user:x@bWFya2VyLXBhc3N3b3Jk@registry.example/v2/",
        "https://user:bWFya2VyLXBhc3N3b3Jk/x@registry.example/v2/",
        "https://user:bWFya2VyLXBhc3N3b3Jk?x@registry.example/v2/",
        "reading user:bWFya2VyLXBhc3N3b3Jk@registry.example/team/web:1: denied",
        "reading user:bWFya2VyLXBhc3N3b3Jk://x@registry.example/team/web:1",
        '{"detail": "{\\"access_token\\": \\"bWFya2VyLXBhc3N3b3Jk\\"}"}',
        "token eyJhbGciOiJub25lIn0.bWFya2VyLXBhc3N3b3Jk.sig",
        "client_secret=bWFya2VyLXBhc3N3b3Jk",
    ],
)
def test_foreign_text_is_cleaned_of_secrets(text: str) -> None:
    shown = clean(f"before {text} after", ("marker-password",))

    assert "marker-password" not in shown
    assert "bWFya2VyLXBhc3N3b3Jk" not in shown


def test_foreign_text_is_one_short_line() -> None:
    assert clean("a\r\n\x1b[31mb\x00\tc") == r"a \x1b[31mb\x00 c"
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


SECRET = 'p"a ss/w+rd%1é'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        SECRET.replace(" ", "\n\t"),
    ],
)
def test_a_secret_is_masked_in_each_form_that_a_server_may_send_back(form: str) -> None:
    assert clean(f"no access for {form}!", (SECRET,)).startswith("no access for ***")


@given(at=st.integers(0, 30), gap=st.integers(0, 40))
def test_a_secret_that_is_cut_in_two_is_masked_all_the_same(at: int, gap: int) -> None:
    """Spaces are joined after the text was cut, so what stood at the end may come into sight."""
    for secret in ("marker-password", "marker password"):
        text = "x" + " " * (MAX_READ - 16 + at - gap) + "y" * gap + secret + "z" * 5000

        line = clean(text, (secret,))

        assert "marker" not in line
        assert len(line) <= MAX_FOREIGN_TEXT


@pytest.mark.parametrize("start", ["https://user:", "at user:"])
def test_a_login_that_is_cut_in_two_is_masked_all_the_same(start: str) -> None:
    password = "bWFya2VyLXBhc3N3b3Jk" * 300
    text = " " * (MAX_READ - 200) + f"{start}{password}@registry.example/v2/"

    assert "bWFy" not in clean(text)
    assert "bWFy" not in clean(f"https://user:{password}@registry.example/v2/")


@given(text=st.text("01 \n\t", max_size=300), secret=st.text("pq s/+@:", min_size=1, max_size=20))
def test_no_secret_is_ever_shown(text: str, secret: str) -> None:
    line = clean(f"{text}<{secret}>{text}", (secret,))

    assert not secret.strip() or f"<{secret}>" not in line
    assert not set(line) & set("pqs/+@:")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("u:a@b@host/x", "***@host/x"),
        ("u:a/b@host/x", "***@host/x"),
        ("docker://u:a@b@host/x#1", "docker://***@host/x#1"),
        ("docker://u:a/b@host/x", "docker://***@host/x"),
        ("docker://u:a#b@host/x", "docker://***@host/x"),
        (f"u:p@host/x@{DIGEST}", f"***@host/x@{DIGEST}"),
        (f"u:{DIGEST}@host/x", "***@host/x"),
        (f"u:p@sha256:{'a' * 64}@host/x", "***@host/x"),
        ("u:p@sha256:5000/x", "***@sha256:5000/x"),
        ("u://p@host/x", "u://***@host/x"),
        ("u:p://q@host/x", "***@host/x"),
        (f"docker:///user/image@sha256#{'a' * 64}", f"docker:///user/image@sha256#{'a' * 64}"),
        (f"docker://host/x#1@{DIGEST}", f"docker://host/x#1@{DIGEST}"),
        (f"host:5000/x:1@{DIGEST}", f"host:5000/x:1@{DIGEST}"),
        ("host/x:1", "host/x:1"),
    ],
)
def test_a_login_reaches_to_the_last_at_sign_that_no_digest_follows(text: str, masked: str) -> None:
    scheme, login, rest = split_login(text)

    assert mask_login(text) == masked
    assert scheme + login + rest == text


def test_a_line_keeps_what_is_no_login() -> None:
    line = f"host:5000/x:1@{DIGEST} and docker:///user/image@sha256#1 at 10:00, write to a@b.example"

    assert mask_logins(line) == line


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b2Jb", r"a\x9b2Jb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u2066b", r"a\u2066b"),
        ("a\ud800b", r"a\ud800b"),
        ("a\U000e0001b", r"a\U000e0001b"),
        ("a\r\nb\u2028c", "a  b c"),
        ("müller 日本", "müller 日本"),
    ],
)
def test_what_a_terminal_obeys_is_written_as_an_escape(text: str, written: str) -> None:
    assert shown(text) == written


@given(st.text(max_size=600))
def test_whatever_is_shown_is_printable(text: str) -> None:
    assert shown(text).isprintable()
    assert clean(text).isprintable()
    assert shown(shown(text)) == shown(text)


def test_a_line_that_was_cut_ends_in_an_ellipsis_also_if_it_is_short() -> None:
    assert one_line("a" + " " * 5000 + "b") == "a…"
    assert clean("a b" + " " * 5000 + "c") == "a…"
    assert len(one_line("x" * 5000, 1000)) == 1000
