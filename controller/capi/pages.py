"""Reads lists of Cloud Controller page by page, by the API's own links.

Pages are counted from the newest, so what is created meanwhile pushes others on to the next page, where
they come once more, and what is deleted meanwhile draws others back to a page that was read. So a page is
read again when the number of all has become smaller after it. An operator can bound how far a list is paged
(`cc.renderer.max_total_results`): from there it is begun anew with what is as old as the last item, or older.
A caller may get an item twice.

Source: cloud_controller_ng app/presenters/v3/paginated_list_presenter.rb, app/messages/list_message.rb.
"""

import re
from collections.abc import AsyncIterator, Mapping

from controller.capi.api_calls import ApiCalls
from controller.capi.capi_errors import SYSTEM
from controller.capi.documents import JsonObject, within
from controller.capi.origin import ApiOrigin, parse_origin
from controller.capi.state import ApiCall
from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.foreign_text import one_line

MAX_PAGES = 20_000

CREATED_UNTIL = "created_ats[lte]"
"""Filter of lists."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


async def list_all(
    calls: ApiCalls, call: ApiCall, path: str, filters: Mapping[str, str]
) -> AsyncIterator[JsonObject]:
    """List the items of all pages, the newest first.

    Raises:
        Invalid: A page is not understood, or leads to another server than the API.
        Unavailable: The list does not come to an end.
    """
    api, total = parse_origin(calls.api_url), 0
    first = {**filters, "order_by": "-created_at", "per_page": str(calls.per_page)}
    here: tuple[str, Mapping[str, str] | None] = (path, first)
    read = list[tuple[str, Mapping[str, str] | None]]()
    oldest, begun_at = None, None
    for _ in range(MAX_PAGES):
        try:
            page = await calls.read(call, *here)
        except Invalid:  # as where an operator allows no page beyond some number of items
            if not read or oldest in {None, begun_at}:
                raise
            begun_at, here, total = oldest, (path, {**first, CREATED_UNTIL: str(oldest)}), 0
            read.clear()
            continue
        items, before, total = page.get("resources"), total, total_of(page)
        if not isinstance(items, list):
            raise Invalid(SYSTEM, ErrorCode.BAD_ANSWER, f"{call}: a page without resources")
        for item in items:
            if not isinstance(item, dict):
                raise Invalid(SYSTEM, ErrorCode.BAD_ANSWER, f"{call}: a page that lists no objects")
            yield item
        oldest = _created_at(items) or oldest
        if total < before and read:
            here = read.pop()
            continue
        following = within(page, "pagination", "next", "href")
        if following is None:
            return
        read.append(here)
        here = _checked(following, calls.api_url, api), None
    raise Unavailable(SYSTEM, "endless-list", f"{call}: more than {MAX_PAGES} pages")


def _created_at(items: list[object]) -> str | None:
    """Return when the last of some items was made; None where it is not told in the form of a filter."""
    created_at = within(items[-1], "created_at") if items else None
    return created_at if isinstance(created_at, str) and _TIME.fullmatch(created_at) else None


def total_of(page: JsonObject) -> int:
    """Return the number of items on all pages, which a page beyond the last does not know.

    Raises:
        Invalid: It is no page.
    """
    total = within(page, "pagination", "total_results")
    if not isinstance(total, int):
        raise Invalid(SYSTEM, ErrorCode.BAD_ANSWER, "Cloud Controller answered without pagination")
    return total


def _checked(link: object, api_url: str, api: ApiOrigin) -> str:
    if isinstance(link, str):
        try:
            is_own = parse_origin(link) == api and link.startswith(f"{api_url}/")
        except Invalid:
            is_own = False
        if is_own:
            return link
    detail = f"a page leads to {one_line(str(link))}, which is not at {api_url}"
    raise Invalid(SYSTEM, ErrorCode.CLOUD_CONTROLLER_LINK_REFUSED, detail)
