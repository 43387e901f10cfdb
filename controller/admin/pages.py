"""Cuts lists into pages.

The token of a page is the key of the last item before it. So no item is skipped or repeated when the list
changes between two pages.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import TypeVar

from controller.admin.grpc_status import BadRequest

T = TypeVar("T")
Key = tuple[float | str, ...]

DEFAULT_SIZE = 100
LARGEST_SIZE = 1000


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


def _bad_token() -> BadRequest:
    return BadRequest("bad-page-token", "the page token is not one that this API gave")
