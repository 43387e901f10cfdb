# ruff: noqa: N802 - names carry the numbers of known bugs
"""Where an upload goes on, from the `Location` of its session."""

import pytest

from controller.registry.http.urls import parse_url
from controller.registry.oci.upload_urls import closing_url, session_url
from reconcile.errors import Invalid
from reconcile.references import parse_digest

REQUEST = parse_url("https://r.example:5000/v2/a/b/blobs/uploads/")
HEX = "ab" * 32
DIGEST = f"digest=sha256%3A{HEX}"

LOCATIONS = [
    ("/v2/a/b/blobs/uploads/U1", f"https://r.example:5000/v2/a/b/blobs/uploads/U1?{DIGEST}"),
    (
        "/v2/a/b/blobs/uploads/U1?_state=abc%3D%3D",
        f"https://r.example:5000/v2/a/b/blobs/uploads/U1?_state=abc%3D%3D&{DIGEST}",
    ),
    ("./U1?x=1", f"https://r.example:5000/v2/a/b/blobs/uploads/U1?x=1&{DIGEST}"),
    ("//other.example/v2/u/U1", f"https://other.example/v2/u/U1?{DIGEST}"),
    (
        "https://storage.example/bucket/o?X-Sig=1&empty=",
        f"https://storage.example/bucket/o?X-Sig=1&empty=&{DIGEST}",
    ),
    ("/u?digest=old", f"https://r.example:5000/u?{DIGEST}"),
    ("/u?a=%7E&digest=old&b=2", f"https://r.example:5000/u?a=%7E&{DIGEST}&b=2"),
    ("/u?mydigest=old", f"https://r.example:5000/u?mydigest=old&{DIGEST}"),
    ("/u?x=1#part", f"https://r.example:5000/u?x=1&{DIGEST}"),
]


@pytest.mark.parametrize(("location", "expected"), LOCATIONS)
def test_D1_the_digest_is_added_and_nothing_else_changes(location: str, expected: str) -> None:
    session = session_url(REQUEST, location)

    assert expected == closing_url(session, parse_digest(f"sha256:{HEX}")).complete


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (
            "http://registry.internal:5000/v2/x",
            "https://r.example:5000 sends uploads to http://registry.internal:5000",
        ),
        ("http://127.0.0.1/x", "http://127.0.0.1"),
        ("http://10.0.0.1/x", "http://10.0.0.1"),
        (None, "https://r.example:5000 started an upload without a Location"),
        ("", "https://r.example:5000"),
        ("ftp://r.example/x", "neither http nor https"),
        ("https://user:marker-password@r.example/x", "r.example carries a user name"),
        ("https://r.example:99999/x", "illegal host or port"),
        ("https://r.example:0/x", "port 0"),
        ("/u 1", "illegal characters"),
        ("/ü", "illegal characters"),
    ],
)
def test_an_unfit_location_is_refused(location: str | None, shown: str) -> None:
    with pytest.raises(Invalid) as refused:
        session_url(REQUEST, location)

    assert shown in refused.value.detail
    assert "marker-password" not in str(refused.value)
