"""Where a list goes on."""

import time

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
        f'<{NEXT}> ; Rel = "NEXT"',
        f'<{NEXT}>; title="a, b; rel=x"; rel=next',
        f'<https://r/other>; title="unclosed \\" quote", <{NEXT}>; rel="next"',
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
    "target",
    [
        "https://[/x",
        "//[x",
        "https://[::1::2]/",
        "https://[v1.x/",
        "https://evil/v2/a",
        "//evil/x",
        "http://evil/x",
        "https://r:444/x",
        "ftp://r/x",
    ],
)
def test_another_host_is_refused(target: str) -> None:
    with pytest.raises(Invalid):
        next_page(BASE, [f'<{target}>; rel="next"'])


@pytest.mark.parametrize("host", ["e" * 256, "e" * 5000, f"u:p@{'e' * 300}", f"{'e' * 300}:99999"])
def test_a_host_that_no_name_can_have_is_refused_without_being_shown(host: str) -> None:
    with pytest.raises(Invalid) as refused:
        next_page(BASE, [f'<https://{host}/x>; rel="next"'])

    assert refused.value.code == "bad-url"
    assert len(refused.value.detail) < 200


@pytest.mark.parametrize(
    "value",
    [
        f'<https://r/x>; rel="prev"; rel="next", {NEXT}',  # the first relation counts
        f'<https://r/x>; title="<{NEXT}>; rel=next"',
        f'<https://r/x>; title="not closed, <{NEXT}>; rel=next',
        f"<{NEXT}>; xrel=next",
        f"<{NEXT}>; rel=nextish",
        f"<{NEXT} ; rel=next",  # a target that is not closed has no parameters
    ],
)
def test_what_only_looks_like_a_next_page_is_none(value: str) -> None:
    assert next_page(BASE, [value]) is None


@pytest.mark.parametrize(
    "piece",
    ["a", "<", "<a", '"', '\\"', ";", ",", "a;rel=", ';rel="', '<>;a="', "\t", "; \t", "<a>;rel=prev,"],
)
def test_a_link_of_any_text_is_read_in_one_walk(piece: str) -> None:
    """A header of 64 KiB once held the interpreter for a minute and a half."""
    hostile = "<" + piece * (65536 // len(piece))
    before = time.thread_time()

    assert next_page(BASE, [hostile, piece * 65536]) is None

    assert time.thread_time() - before < 2.0  # of the processor; some milliseconds are usual
