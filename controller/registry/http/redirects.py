"""Follows redirects, and sends `Authorization` to its own origin alone."""

from dataclasses import replace

from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.request import Request, RequestContext
from controller.registry.http.response import Response
from reconcile.errors import Invalid
from reconcile.foreign_text import clean

MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})


def follow(pool: ConnectionPool, request: Request, context: RequestContext) -> Response:
    """Send a GET or HEAD and follow its redirects.

    Raises:
        Invalid: `redirect-refused` for a loop, a downgrade to http or a missing target.
    """
    home = request.url.origin
    for _ in range(MAX_REDIRECTS + 1):
        response = pool.send(request, context)
        if response.status not in REDIRECTS:
            return response
        response.drain()
        location = response.headers.get("Location")
        if not location:
            raise Invalid("registry", "redirect-refused", f"{request.url} redirects to nowhere")
        url = request.url.join(location)
        if request.url.origin.scheme == "https" and url.origin.scheme != "https":
            raise Invalid("registry", "redirect-refused", f"{request.url.origin} redirects to plain http")
        headers = {
            name: value
            for name, value in request.headers.items()
            if url.origin == home or name != "Authorization"
        }
        request = replace(request, url=url, headers=headers)
    raise Invalid("registry", "redirect-refused", f"{clean(str(request.url))} redirects too often")
