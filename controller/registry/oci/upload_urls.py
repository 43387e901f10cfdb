"""Computes the URLs of an upload session from the `Location` that the registry sent.

The query of a `Location` is part of the session: its exact bytes are kept. The digest is added, or replaces
one that is there.

Source: OCI distribution specification, "Pushing a blob monolithically".
"""

import re
from dataclasses import replace
from urllib.parse import quote

from controller.registry.http.urls import Url
from reconcile.errors import Invalid
from reconcile.references import Digest

_DIGEST_PARAMETER = re.compile(r"(?<=[?&])digest=[^&]*")


def session_url(requested: Url, location: str | None) -> Url:
    """Return the URL at which an upload continues.

    Raises:
        Invalid: `bad-location` when there is none, or it downgrades to http; `bad-url` when it is no URL.
    """
    if not location:
        raise Invalid("registry", "bad-location", f"{requested.origin} started an upload without a Location")
    url = requested.join(location)
    if requested.origin.scheme == "https" and url.origin.scheme != "https":
        raise Invalid(
            "registry",
            "bad-location",
            f"{requested.origin} sends uploads to {url.origin}, which is not https: "
            "does a proxy that ends TLS send no X-Forwarded-Proto?",
        )
    return url


def closing_url(session: Url, digest: Digest) -> Url:
    """Return the URL that completes a session, with the digest under which its bytes are stored."""
    parameter = f"digest={quote(str(digest), safe='')}"
    if _DIGEST_PARAMETER.search(session.target):
        return replace(session, target=_DIGEST_PARAMETER.sub(parameter, session.target, count=1))
    return session.with_parameters(parameter)
