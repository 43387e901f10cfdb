"""Cuts lists into pages; a token names the last item of a page, so changes of the list shift nothing."""

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
    """Return the items of one page in the order of their keys, and the next page's token, "" after the last.

    Raises:
        BadRequest: The size is negative, or the token is not one of ours.
    """
    most = page_size(size)
    after = key_from_token(token)
    try:
        rest = sorted((item for item in items if after is None or key(item) > after), key=key)
    except TypeError as error:  # it is the token of another list
        raise _bad_token() from error
    chosen = rest[:most]
    return chosen, token_from_key(key(chosen[-1])) if len(rest) > most else ""


def page_size(size: int) -> int:
    """Return the number of items on a page.

    Raises:
        BadRequest: The size is negative.
    """
    if size < 0:
        raise BadRequest("bad-page-size", f"a page cannot have {size} items")
    return min(size or DEFAULT_SIZE, LARGEST_SIZE)


def token_from_key(key: Key) -> str:
    """Write the token of a page that begins after a key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def key_from_token(token: str) -> Key | None:
    """Read a token; None means from the beginning.

    Raises:
        BadRequest: The token is not one of ours.
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
