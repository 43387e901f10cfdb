"""Reads lists of Cloud Controller page by page, by the API's own links.

Pages are counted from the newest, so what is created meanwhile pushes others on to the next page, where
they come once more, and what is deleted meanwhile draws others back to a page that was read. So a page is
read again when the number of all has become smaller after it. A caller may get an item twice.

Source: cloud_controller_ng app/presenters/v3/paginated_list_presenter.rb.
"""

from collections.abc import AsyncIterator, Mapping

from controller.capi.api_calls import ApiCalls
from controller.capi.capi_errors import SYSTEM
from controller.capi.documents import JsonObject, within
from controller.capi.origin import parse_origin
from controller.capi.state import ApiCall
from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.foreign_text import one_line

PER_PAGE = 1000
"""Items on a page: the API allows 5000, and a request costs more of the limit than its items."""

MAX_PAGES = 20_000


async def list_all(
    calls: ApiCalls, call: ApiCall, path: str, filters: Mapping[str, str]
) -> AsyncIterator[JsonObject]:
    """List the items of all pages, the newest first.

    Raises:
        Invalid: A page is not understood, or leads to another server than the API.
        Unavailable: The list does not come to an end.
    """
    params: dict[str, str] | None = {**filters, "order_by": "-created_at", "per_page": str(PER_PAGE)}
    api, url, before = parse_origin(calls.api_url), path, None
    total: int | None = None
    for _ in range(MAX_PAGES):
        page = await calls.read(call, url, params)
        items, here = page.get("resources"), within(page, "pagination", "total_results")
        if not isinstance(items, list) or not isinstance(here, int):
            raise Invalid(SYSTEM, "bad-answer", f"{call}: a page without resources or pagination")
        for item in items:
            if not isinstance(item, dict):
                raise Invalid(SYSTEM, "bad-answer", f"{call}: a page with something else than objects")
            yield item
        is_fewer, total = total is not None and here < total, here
        if is_fewer and before is not None:
            (url, params), before = before, None
            continue
        following = within(page, "pagination", "next", "href")
        if following is None:
            return
        before = url, params
        url, params = _checked(following, calls.api_url, api), None
    raise Unavailable(SYSTEM, "endless-list", f"{call}: more than {MAX_PAGES} pages")


def _checked(link: object, api_url: str, api: object) -> str:
    if isinstance(link, str):
        try:
            is_own = parse_origin(link) == api and link.startswith(f"{api_url}/")
        except Invalid:
            is_own = False
        if is_own:
            return link
    detail = f"a page leads to {one_line(str(link))}, which is not at {api_url}"
    raise Invalid(SYSTEM, ErrorCode.CLOUD_CONTROLLER_LINK_REFUSED, detail)
