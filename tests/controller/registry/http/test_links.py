"""Where a list goes on."""

import pytest

from controller.registry.http.links import next_page
from controller.registry.http.urls import parse_url
from reconcile.errors import Invalid

BASE = parse_url("https://r/v2/a/tags/list?n=2")
NEXT = "https://r/v2/a/tags/list?n=2&last=b"


@pytest.mark.parametrize(
    "value",
    [
        f"<{NEXT}>; rel=next",
        f'<{NEXT}>; rel="next"',
        f'<{NEXT}>;rel="prev next";title="x"',
        '<?n=2&last=b>; rel="next"',
        '</v2/a/tags/list?n=2&last=b>; rel="next"',
        '<http://r/v2/a/tags/list?n=2&last=b>; rel="next"',
        f'<https://r/other>; rel="prev", <{NEXT}>; rel="next"',
        pytest.param(f'{NEXT}; rel="next"', id="E10-no-brackets"),
    ],
)
def test_the_next_page_is_found(value: str) -> None:
    following = next_page(BASE, [value])

    assert following is not None
    assert following.complete == NEXT


@pytest.mark.parametrize(
    "value", ["", "<x>", f'<{NEXT}>; rel="prev"', f"<{BASE.complete}>; rel=next", "rel=next", ";;;,,,<"]
)
def test_the_last_page_has_none(value: str) -> None:
    assert next_page(BASE, [value]) is None


@pytest.mark.parametrize(
    "target", ["https://evil/v2/a", "//evil/x", "http://evil/x", "https://r:444/x", "ftp://r/x"]
)
def test_another_host_is_refused(target: str) -> None:
    with pytest.raises(Invalid):
        next_page(BASE, [f'<{target}>; rel="next"'])
