"""Works out where an upload goes from the `Location` that a registry gave for it.

The query of a `Location` is part of the session: it is kept byte for byte, and the digest is added to it.

Source: OCI distribution specification, "Pushing a blob monolithically".
"""

import re
from dataclasses import replace
from urllib.parse import quote

from controller.registry.urls import Url
from reconcile.errors import Invalid
from reconcile.images import Digest

_DIGEST_PARAMETER = re.compile(r"(?<=[?&])digest=[^&]*")


def session_url(request: Url, location: str | None) -> Url:
    """Resolve where an upload goes on.

    Raises:
        Invalid: `bad-location` when there is none, or it leaves https.
    """
    if not location:
        raise Invalid("registry", "bad-location", f"{request.origin} began an upload without saying where")
    url = request.join(location)
    if request.origin.scheme == "https" and url.origin.scheme != "https":
        raise Invalid(
            "registry",
            "bad-location",
            f"{request.origin} sends uploads to {url.origin}, which is not https: "
            "does a proxy in front of it hide its own name?",
        )
    return url


def closing_url(session: Url, digest: Digest) -> Url:
    """Add the digest under which a session's bytes are to be stored."""
    parameter = f"digest={quote(str(digest), safe='')}"
    if _DIGEST_PARAMETER.search(session.target):
        return replace(session, target=_DIGEST_PARAMETER.sub(parameter, session.target, count=1))
    return session.with_parameters(parameter)
