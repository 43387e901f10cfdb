"""Lists in pages: each item once, whatever comes and goes while somebody leafs through them."""

import base64
import json
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.admin.grpc_status import BadRequest
from controller.admin.pages import (
    DEFAULT_SIZE,
    LARGEST_BYTES,
    LARGEST_SIZE,
    Key,
    fitting,
    key_from_token,
    page,
    page_size,
    token_from_key,
)
from protos.admin import admin_pb2 as pb

Item = tuple[float, str]

items = st.tuples(st.floats(-1e9, 1e9), st.text(max_size=3))
sizes = st.integers(1, 5)


def key_of(item: Item) -> Key:
    return item


def leaf(at: Callable[[int], Iterable[Item]], size: int) -> list[list[Item]]:
    """Read page after page of what there is at each one."""
    pages, token = list[list[Item]](), ""
    while not pages or token:
        chosen, token = page(at(len(pages)), key_of, size=size, token=token)
        pages.append(chosen)
    return pages


@given(there=st.sets(items), size=sizes)
def test_all_items_are_given_once_and_in_order(there: set[Item], size: int) -> None:
    pages = leaf(lambda _: there, size)

    assert [item for chosen in pages for item in chosen] == sorted(there)


@given(there=st.sets(items), size=sizes)
def test_every_page_but_the_last_is_full_and_none_is_empty(there: set[Item], size: int) -> None:
    pages = leaf(lambda _: there, size)

    assert all(len(chosen) == size for chosen in pages[:-1])
    assert bool(pages[-1]) == bool(there)


@given(
    stays=st.sets(items),
    passing=st.lists(st.sets(items), min_size=1, max_size=5),
    size=sizes,
)
def test_what_comes_and_goes_between_pages_shifts_nothing(
    stays: set[Item], passing: list[set[Item]], size: int
) -> None:
    pages = leaf(lambda number: stays | passing[number % len(passing)], size)

    given_items = [item for chosen in pages for item in chosen]
    assert given_items == sorted(set(given_items)), "none twice"
    assert stays <= set(given_items), "none left out"


def test_the_item_that_a_token_was_made_of_may_be_gone() -> None:
    _, token = page([(1.0, "a"), (2.0, "b"), (3.0, "c")], key_of, size=2, token="")

    chosen, _ = page([(1.0, "a"), (3.0, "c")], key_of, size=2, token=token)

    assert chosen == [(3.0, "c")]


def test_after_the_last_item_there_is_no_token() -> None:
    _, token = page([(1.0, "a"), (2.0, "b")], key_of, size=2, token="")

    assert token == ""


@pytest.mark.parametrize(
    ("asked", "size"), [(0, DEFAULT_SIZE), (1, 1), (LARGEST_SIZE, LARGEST_SIZE), (2**31 - 1, LARGEST_SIZE)]
)
def test_a_page_has_as_many_items_as_asked_for_within_a_limit(asked: int, size: int) -> None:
    assert page_size(asked) == size


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        page([], key_of, size=-1, token="")

    assert caught.value.code == "bad-page-size"


@given(key=st.lists(st.floats(allow_nan=False) | st.text(), min_size=1).map(tuple))
def test_a_token_names_the_key_that_it_was_made_of(key: Key) -> None:
    assert key_from_token(token_from_key(key)) == key


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


UNREADABLE = {
    "not base64": "x",
    "not ASCII": "é",
    "not JSON": base64.urlsafe_b64encode(b"[1").decode(),
    "not UTF-8": base64.urlsafe_b64encode(b'["\xff"]').decode(),
    "too deep": base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    "no list": encoded({"a": 1}),
    "an empty list": encoded([]),
    "a list of lists": encoded([[1.0]]),
    "nothing in it": encoded([None]),
}


@pytest.mark.parametrize("token", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_token_that_was_never_given_is_refused(token: str) -> None:
    with pytest.raises(BadRequest) as caught:
        page([(1.0, "a")], key_of, size=1, token=token)

    assert caught.value.code == "bad-page-token"


@pytest.mark.parametrize("key", [("p-1",), (1.0, 2.0)])
def test_a_token_of_another_list_is_refused(key: Key) -> None:
    with pytest.raises(BadRequest) as caught:
        page([(1.0, "a"), (2.0, "b")], key_of, size=1, token=token_from_key(key))

    assert caught.value.code == "bad-page-token"


@given(token=st.text())
def test_any_text_for_a_token_is_read_or_refused(token: str) -> None:
    try:
        chosen, _ = page([(1.0, "a")], key_of, size=1, token=token)
    except BadRequest:
        return
    assert chosen in ([], [(1.0, "a")])


def written(item: Item) -> pb.Job:
    return pb.Job(job_id=item[1], error="x" * int(item[0]))


def item_key(item: Item) -> Key:
    return (item[1],)


@given(lengths=st.lists(st.integers(0, LARGEST_BYTES // 2), max_size=12), size=st.integers(1, 12))
def test_no_page_has_more_bytes_than_a_client_takes_and_none_is_left_out(
    lengths: list[int], size: int
) -> None:
    there = [(float(length), f"{number:03}") for number, length in enumerate(lengths)]
    token, read = "", list[str]()
    while True:
        chosen, token = page(there, item_key, size=size, token=token)
        rows, token = fitting(chosen, token, key=item_key, write=written)
        assert pb.ListJobsResponse(jobs=rows, next_page_token=token).ByteSize() <= LARGEST_BYTES + 1024
        read += [row.job_id for row in rows]
        if not token:
            break

    assert read == [name for _, name in there]


def test_an_item_that_is_larger_than_a_page_is_one_of_its_own() -> None:
    there = [(1.0, "a"), (float(LARGEST_BYTES), "b"), (1.0, "c")]

    first, token = fitting(there, "", key=item_key, write=written)
    second, _ = fitting(there[1:], "", key=item_key, write=written)

    assert ([row.job_id for row in first], token) == (["a"], token_from_key(("a",)))
    assert [row.job_id for row in second] == ["b"]
