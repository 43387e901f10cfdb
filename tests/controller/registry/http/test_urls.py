"""URLs that registries send become an origin in one form and a target in its exact bytes."""

import pytest

from controller.registry.http.urls import parse_url
from reconcile.errors import Invalid


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://R.example/x", "https://r.example"),
        ("https://r.example./x", "https://r.example"),
        ("https://r.example.:0443/x", "https://r.example"),
        ("http://r.example:0080/", "http://r.example"),
        ("https://[2001:DB8:0::1]:5000/", "https://[2001:db8::1]:5000"),
        ("https://0x7f.1:5000/", "https://127.0.0.1:5000"),
        ("https://2130706433/", "https://127.0.0.1"),
        ("https://1.2.3.4.5/", "https://1.2.3.4.5"),
    ],
)
def test_an_origin_has_one_form(text: str, origin: str) -> None:
    assert str(parse_url(text).origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        "https://./x",
        "https://../x",
        f"https://{'e' * 256}/x",
        f"https://{'e.' * 8000}example/x",
        f"https://u:p@{'e' * 16000}/",
        "https://[::1/x",
        "https://r.example:x/",
    ],
)
def test_an_origin_that_is_none_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_url(text)

    assert refused.value.code == "bad-url"
    assert len(refused.value.detail) < 200


def test_a_target_keeps_its_bytes() -> None:
    url = parse_url("https://r.example/a%2Fb/./c?X-Sig=a%7E&empty=&b")

    assert url.target == "/a%2Fb/./c?X-Sig=a%7E&empty=&b"


def test_a_url_that_was_refused_is_refused_again() -> None:
    parse_url("https://registry.example.com/v2/")
    for _ in range(2):
        with pytest.raises(Invalid):
            parse_url("https://user:secret@registry.example.com/v2/")

    assert (
        parse_url("https://REGISTRY.example.com./v2/").origin
        == parse_url("https://registry.example.com/").origin
    )
