"""Lists of the API: their parameters, pages and links.

Source: cloud_controller_ng lib/cloud_controller/paging/sequel_paginator.rb (order, then GUID in the same direction;
the total comes with the rows, so that a page beyond the end knows none), app/presenters/v3/pagination_presenter.rb,
app/messages/list_message.rb. Of the filters by time only `created_ats[lte]` is known here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode

from tests.simulators.capi.errors import bad_query
from tests.simulators.capi.records import Row

MOST_PER_PAGE = 5000
PER_PAGE = 50
CREATED_UNTIL = "created_ats[lte]"
PAGING = frozenset({"page", "per_page", "order_by", CREATED_UNTIL})
ORDERS = frozenset({"created_at", "updated_at"})

Kind = TypeVar("Kind", bound=Row)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a list is asked for.

    Attributes:
        filters: Name to the values of which one must fit.
        order_by: A column, with a "-" in front for the newest first.
        created_until: The latest time in seconds since 1970 at which a row may have been made; None for any.
    """

    filters: Mapping[str, frozenset[str]]
    order_by: str = "created_at"
    page: int = 1
    per_page: int = PER_PAGE
    created_until: float | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """The query parameters of the links to other pages, without the page."""
        direction = "" if self.order_by.startswith("-") else "+"
        named = {"order_by": f"{direction}{self.order_by}", "per_page": str(self.per_page)}
        if self.created_until is not None:
            until = datetime.fromtimestamp(self.created_until, UTC)
            named[CREATED_UNTIL] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        return named | {name: ",".join(sorted(values)) for name, values in self.filters.items()}


def parse_query(query: str, *names: str) -> ListQuery:
    """Read a list's parameters.

    Raises:
        ApiError: One is unknown, or wrong.
    """
    values = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(values.keys() - PAGING - set(names))
    if unknown:
        allowed = ", ".join(f"'{name}'" for name in (*sorted(PAGING), *names))
        said = ", ".join(f"'{name}'" for name in unknown)
        raise bad_query(f"Unknown query parameter(s): {said}. Valid parameters are: {allowed}")
    order_by = values.get("order_by", "created_at").removeprefix("+")
    if order_by.removeprefix("-") not in ORDERS:
        raise bad_query("Order by can only be: 'created_at', 'updated_at'")
    return ListQuery(
        {name: frozenset(values[name].split(",")) for name in names if name in values},
        order_by,
        _number(values, "page", 1, None),
        _number(values, "per_page", PER_PAGE, MOST_PER_PAGE),
        _moment(values[CREATED_UNTIL]) if CREATED_UNTIL in values else None,
    )


def _number(values: Mapping[str, str], name: str, default: int, most: int | None) -> int:
    text = values.get(name, str(default))
    label = name.replace("_", " ").capitalize()
    if not text.isascii() or not text.isdigit() or int(text) < 1 or (most is not None and int(text) > most):
        limits = "must be greater than 0" if most is None else f"must be between 1 and {most}"
        raise bad_query(f"{label} {limits}")
    return int(text)


def _moment(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise bad_query("Created ats has an invalid timestamp format") from None


def page_of(
    rows: Iterable[Kind], query: ListQuery, url: str, present: Callable[[Kind], Mapping[str, object]]
) -> dict[str, object]:
    """Write one page of the list that is at a URL without parameters."""
    column = query.order_by.removeprefix("-")
    is_newest_first = query.order_by.startswith("-")
    until = query.created_until
    kept = (row for row in rows if until is None or int(row.created_at) <= until)
    ordered = sorted(kept, key=lambda row: (getattr(row, column), row.guid), reverse=is_newest_first)
    begin = (query.page - 1) * query.per_page
    shown = ordered[begin : begin + query.per_page]
    total = len(ordered) if shown else 0
    pages = max(-(-total // query.per_page), 1)

    def link(page: int) -> dict[str, str]:
        return {"href": f"{url}?{urlencode({'page': page} | query.parameters)}"}

    pagination = {
        "total_results": total,
        "total_pages": pages,
        "first": link(1),
        "last": link(pages),
        "next": link(query.page + 1) if query.page < pages else None,
        "previous": link(query.page - 1) if query.page > 1 else None,
    }
    return {"pagination": pagination, "resources": [present(row) for row in shown]}
