"""Finds the URL of a list's next page in `Link` headers.

Source: RFC 8288; OCI distribution specification, "Listing Tags".
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from controller.registry.http.urls import Url
from reconcile.errors import Invalid

_LINK = re.compile(
    r'(?:<([^>]*)>|([^\s;,<>]+))\s*((?:;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^\s;,"]*)\s*)+)', re.ASCII
)
_NEXT = re.compile(
    r';\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\s*(?:;|$))', re.ASCII | re.IGNORECASE
)


def next_page(page: Url, values: Iterable[str]) -> Url | None:
    """Return the URL of the next page; None when there is none, or when it would be the same page again.

    Args:
        page: The URL of the page that was read.
        values: The values of its `Link` headers.

    Raises:
        Invalid: `bad-link` when the next page has another origin.
    """
    for value in values:
        for match in _LINK.finditer(value):
            target = match[1] if match[1] is not None else match[2]
            if not _NEXT.search(match[3].rstrip()):
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
