"""Finds the next page in a `Link` header.

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


def next_page(url: Url, values: Iterable[str]) -> Url | None:
    """Return the URL of the page after one; None when that was the last, or the next would be the same again.

    Raises:
        Invalid: `bad-link` when the next page is at another host.
    """
    for value in values:
        for match in _LINK.finditer(value):
            target = match[1] if match[1] is not None else match[2]
            if not _NEXT.search(match[3].rstrip()):
                continue
            following = url.join(target)
            if (following.origin.host, following.origin.scheme) == (url.origin.host, "http"):
                following = replace(following, origin=url.origin)  # a proxy in front hides its TLS
            if following.origin != url.origin:
                raise Invalid("registry", "bad-link", f"{url.origin} continues a list at {following.origin}")
            return None if following == url else following
    return None
