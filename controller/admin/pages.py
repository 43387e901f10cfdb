"""Cuts lists into pages, by the number of their items and by the bytes of the messages that these become.

The token of a page is the key of the last item before it. So no item is skipped or repeated when the list
changes between two pages.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from controller.admin.grpc_status import BadRequest

T = TypeVar("T")
M = TypeVar("M", bound=Message)
Key = tuple[float | str, ...]

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000
LARGEST_NUMBER = 2**63 - 1
LARGEST_BYTES = 2 * 1024 * 1024
"""Bytes of a page; gRPC's clients take 4 MiB by default."""
_FRAME = 8
"""Bytes that each message may take beside its own: the number and the length of its field."""


def page(items: Iterable[T], key: Callable[[T], Key], *, size: int, token: str) -> tuple[list[T], str]:
    """Return one page of the items, sorted by key, and the token of the next page; "" when there is none.

    Raises:
        BadRequest: The size is negative, or the token is not from this API.
    """
    limit = page_size(size)
    after = key_from_token(token)
    try:
        rest = sorted((item for item in items if after is None or key(item) > after), key=key)
    except TypeError as error:  # the token is from another list
        raise _bad_token() from error
    chosen = rest[:limit]
    return chosen, token_from_key(key(chosen[-1])) if len(rest) > limit else ""


def written_page(
    items: Iterable[T], *, key: Callable[[T], Key], write: Callable[[T], M], size: int, token: str
) -> tuple[list[M], str]:
    """Return one page of the items as messages, and the token of the next page; see `page` and `fitting`."""
    chosen, following = page(items, key, size=size, token=token)
    return fitting(chosen, following, key=key, write=write)


def fitting(
    items: Sequence[T], token: str, *, key: Callable[[T], Key], write: Callable[[T], M]
) -> tuple[list[M], str]:
    """Write the items of a page as messages, and return the token of the next page.

    Of more bytes than a page has, the items that fit are written, and the next page starts after them. At
    least one item is written.
    """
    written, size = list[M](), 0
    for number, item in enumerate(items):
        message = write(item)
        size += message.ByteSize() + _FRAME
        if written and size > LARGEST_BYTES:
            return written, token_from_key(key(items[number - 1]))
        written.append(message)
    return written, token


def page_size(size: int) -> int:
    """Return the greatest number of items on a page.

    Raises:
        BadRequest: The size is negative.
    """
    if size < 0:
        raise BadRequest("bad-page-size", f"a page cannot have {size} items")
    return min(size or DEFAULT_SIZE, LARGEST_SIZE)


def token_from_key(key: Key) -> str:
    """Write the token of the page that starts after a key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def key_from_token(token: str) -> Key | None:
    """Read the key from a token; None when the token is empty, for the first page.

    Raises:
        BadRequest: The token is not from this API.
    """
    if not token:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _bad_token() from error
    if not isinstance(key, list) or not key or not all(isinstance(part, str | float | int) for part in key):
        raise _bad_token()
    return tuple(key)


def place_from_token(token: str) -> tuple[float, str] | None:
    """Read a key of a time and an id from a token; None when the token is empty.

    Raises:
        BadRequest: The token is not from a list that is sorted by time.
    """
    key = key_from_token(token)
    if key is None:
        return None
    at, name = key if len(key) == 2 else ("", "")
    if isinstance(at, str) or not isinstance(name, str):
        raise _bad_token()
    if not (abs(at) <= LARGEST_NUMBER and name.isprintable()):  # as the database can compare them
        raise _bad_token()
    return at, name


def number_from_token(token: str) -> int | None:
    """Read a key of one number from a token; None when the token is empty.

    Raises:
        BadRequest: The token is not from a list that is sorted by number.
    """
    key = key_from_token(token)
    if key is None:
        return None
    if len(key) != 1 or not isinstance(key[0], int) or not 0 <= key[0] <= LARGEST_NUMBER:
        raise _bad_token()
    return key[0]


def _bad_token() -> BadRequest:
    return BadRequest("bad-page-token", "the page token is not one that this API gave")
