"""Finds the URL of a list's next page in `Link` headers.

A registry may send anything: a value is read in one walk over a bounded number of its characters.
Source: RFC 8288; OCI distribution specification, "Listing Tags".
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from controller.registry.http.urls import Url
from reconcile.errors import Invalid

_MOST = 16384  # characters of one value
_PART = re.compile(r'<[^<>]*>?|"(?:[^"\\]|\\.)*"?|[,;]|[^<>",;]+|.', re.DOTALL)
"""A target, a quoted text, a separator, or anything else; each alternative succeeds where it begins."""


def next_page(page: Url, values: Iterable[str]) -> Url | None:
    """Return the URL of the next page; None when there is none, or when it would be the same page again.

    Args:
        page: The URL of the page that was read.
        values: The values of its `Link` headers.

    Raises:
        Invalid: `bad-link` when the next page has another origin.
    """
    for value in values:
        for target, relations in _links(value[:_MOST]):
            if "next" not in relations:
                continue
            next_url = page.join(target)
            if (next_url.origin.host, next_url.origin.scheme) == (page.origin.host, "http"):
                # The registry does not know that a proxy in front of it terminates TLS.
                next_url = replace(next_url, origin=page.origin)
            if next_url.origin != page.origin:
                detail = f"{page.origin} links to the next page of a list at {next_url.origin}"
                raise Invalid("registry", "bad-link", detail)
            return None if next_url == page else next_url
    return None


def _links(value: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Read the targets of a header's links, each with its relations; some registries omit the brackets."""
    target, relations, parameter, is_target = "", frozenset[str](), "", True
    for part in (*_PART.findall(value), ","):
        if part in {",", ";"}:
            relations = relations or _relations(parameter)
            parameter, is_target = "", is_target and part == ","
        elif is_target:
            target += part
        else:
            parameter += part
        if part == ",":
            yield target.strip().removeprefix("<").removesuffix(">"), relations
            target, relations, is_target = "", frozenset(), True


def _relations(parameter: str) -> frozenset[str]:
    """Read the value of the parameter `rel`; empty for another parameter."""
    name, _, text = parameter.partition("=")
    if name.strip().lower() != "rel":
        return frozenset()
    return frozenset(text.strip().strip('"').lower().split())
