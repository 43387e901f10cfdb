"""Reads lists of Cloud Controller page by page, by the API's own links.

Pages are counted from the newest, so what is created meanwhile pushes others on to the next page, where
they come once more, and what is deleted meanwhile draws others back to a page that was read. So a page is
read again when the number of all has become smaller after it. A caller may get an item twice.

An operator may bound how far from the first item a page may be (`cc.renderer.max_total_results`). Then the
rest is listed in slices, each of what was created no later than the last item of the slice before it.

Source: cloud_controller_ng app/presenters/v3/paginated_list_presenter.rb, app/messages/list_message.rb
(`created_ats`, in whole seconds).
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from controller.capi.api_calls import ApiCalls
from controller.capi.capi_errors import SYSTEM
from controller.capi.documents import JsonObject, within
from controller.capi.origin import ApiOrigin, parse_origin
from reconcile.cloud_controller_status import ApiCall
from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.foreign_text import one_line

MAX_PAGES = 20_000

SMALLER_BY = 4
"""Divides the number of items on a page when already the first page of a list is refused as too long."""

CREATED_UNTIL = "created_ats[lte]"

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


async def list_all(
    calls: ApiCalls, call: ApiCall, path: str, filters: Mapping[str, str]
) -> AsyncIterator[JsonObject]:
    """List the items of all pages, the newest first.

    Raises:
        Invalid: A page is not understood, or leads to another server than the API; or a part of the list is
            not shown, and the error says which.
        Unavailable: The list does not come to an end.
    """
    listing = _Listing(calls, call, path)
    part = _Slice({**filters, "order_by": "-created_at"}, calls.per_page)
    while True:
        async for item in listing.read(part):
            yield item
        following = part.following(call)
        if following is None:
            return
        part = following


@dataclass(slots=True)
class _Slice:
    """A part of a list.

    Attributes:
        filters: The filters of the list, without those of the slice.
        per_page: Items on a page.
        until: Time by which its newest item was created; empty for the slice at the beginning of the list.
        most_pages: Pages that may be read; None while none was refused.
        refusal: Why Cloud Controller refused the page after these; None while it has not.
        last: When the last item that was read was created; empty before the first.
        is_cut: Whether the slice has more items than could be read.
    """

    filters: Mapping[str, str]
    per_page: int
    until: str = ""
    most_pages: int | None = None
    refusal: Invalid | None = None
    last: str = ""
    is_cut: bool = False

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the slice's first page."""
        bound = {CREATED_UNTIL: self.until} if self.until else {}
        return {**self.filters, **bound, "per_page": str(self.per_page)}

    def following(self, call: ApiCall) -> "_Slice | None":
        """Return the slice that shows what this one does not; None when it shows all.

        Raises:
            Invalid: No slice can show the rest.
        """
        refusal = self.refusal
        if not self.is_cut or refusal is None:
            return None
        if not self.last and not self.until and self.per_page >= SMALLER_BY:
            return _Slice(self.filters, self.per_page // SMALLER_BY)
        if self.last and self.last != self.until:
            return _Slice(self.filters, self.per_page, self.last, self.most_pages, refusal)
        if not self.until:
            raise refusal
        missing = f"{call}: what was created before {self.until} is not shown"
        raise Invalid(SYSTEM, refusal.code, f"{missing} (cc.renderer.max_total_results): {refusal.detail}")


@dataclass(slots=True)
class _Listing:
    """Reads the pages of one list.

    Attributes:
        pages: That were read.
    """

    calls: ApiCalls
    call: ApiCall
    path: str
    pages: int = 0

    async def read(self, part: _Slice) -> AsyncIterator[JsonObject]:
        """Read the items of a slice, and note in it how far that went."""
        api, total = parse_origin(self.calls.api_url), 0
        here: tuple[str, Mapping[str, str] | None] = (self.path, part.parameters)
        read = list[tuple[str, Mapping[str, str] | None]]()
        while True:
            try:
                page = await self._read_page(here)
            except Invalid as error:
                if error.code != ErrorCode.CLOUD_CONTROLLER_QUERY_REFUSED:
                    raise
                part.refusal, part.most_pages, part.is_cut = error, len(read) or None, True
                return
            before, total = total, total_of(page)
            for item in self._items_of(page):
                yield item
                part.last = self._created_at(item)
            if total < before and read:
                here = read.pop()
                continue
            following = within(page, "pagination", "next", "href")
            if following is None:
                return
            read.append(here)
            if len(read) == part.most_pages:
                part.is_cut = True
                return
            here = _checked(following, self.calls.api_url, api), None

    async def _read_page(self, here: tuple[str, Mapping[str, str] | None]) -> JsonObject:
        self.pages += 1
        if self.pages > MAX_PAGES:
            raise Unavailable(SYSTEM, "endless-list", f"{self.call}: more than {MAX_PAGES} pages")
        return await self.calls.read(self.call, *here)

    def _items_of(self, page: JsonObject) -> Iterator[JsonObject]:
        items = page.get("resources")
        if not isinstance(items, list):
            raise Invalid(SYSTEM, ErrorCode.BAD_ANSWER, f"{self.call}: a page without resources")
        for item in items:
            if not isinstance(item, dict):
                raise Invalid(SYSTEM, ErrorCode.BAD_ANSWER, f"{self.call}: a page that lists no objects")
            yield item

    def _created_at(self, item: JsonObject) -> str:
        """Read when an item was created; empty where it does not say that as it should."""
        created_at = item.get("created_at")
        return created_at if isinstance(created_at, str) and _TIME.fullmatch(created_at) else ""


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
