"""Follows redirects, and sends `Authorization` to its own origin alone.

A registry's documents (manifests, lists, the answer to its API version) come from its own origin alone: what
another origin serves may be somebody else's. A blob may come from anywhere, since its digest is known.
A request that writes is sent to another place only within the registry, or to a host that the operator has
named for it: its body is an image that perhaps nobody else may read.
"""

from collections.abc import Mapping
from dataclasses import replace

from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.request import Request, RequestContext
from controller.registry.http.response import Response
from controller.registry.http.urls import Origin, Url
from reconcile.errors import ErrorCode, Invalid
from reconcile.foreign_text import clean

MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD = frozenset({307, 308})
"""Statuses that keep the method; others turn a write into a GET in many clients, so they are not followed."""


def follow(pool: ConnectionPool, request: Request, context: RequestContext) -> Response:
    """Send a GET or HEAD and follow its redirects.

    Raises:
        Invalid: `redirect-refused` for a loop, a downgrade to http, a missing target, or another origin that
            must not answer; `origin-refused` for another registry of the config.
    """
    first = request.url.origin
    for _ in range(MAX_REDIRECTS + 1):
        response = pool.send(request, context)
        if response.status not in REDIRECTS:
            return response
        url = _target(response, request)
        if url.origin != first and not request.may_leave:
            raise _refused(
                f"{first} redirects to {url.origin}, which must not answer for it: name that one in the image"
            )
        if url.origin != first:
            context = context.of_led()
        request = replace(request, url=url, headers=_headers(request, url, first))
    raise _refused(f"{clean(str(request.url))} redirects too often")


def follow_write(pool: ConnectionPool, request: Request, context: RequestContext) -> Response:
    """Send a request that writes, and follow its redirects as far as its body can be sent again.

    A redirect of a body that is made of pieces is returned as it is; see `is_redirected_upload`.

    Raises:
        Invalid: `redirect-refused` for a loop, a missing target, or a host that is none of the registry's.
    """
    first = request.url.origin
    for _ in range(MAX_REDIRECTS + 1):
        response = pool.send(request, context)
        if response.status not in _KEEP_METHOD or not isinstance(request.body, bytes | None):
            return response
        url = write_target(response, request, context)
        if url.origin != first:
            context = context.of_led()
        request = replace(request, url=url, headers=_headers(request, url, first))
    raise _refused(f"{clean(str(request.url))} redirects too often")


def is_redirected_upload(response: Response, request: Request) -> bool:
    """Whether a response asks to send a body of pieces to another place, and the pieces can be had again."""
    body = request.body
    can_repeat = not isinstance(body, bytes | None) and iter(body) is not body
    return response.status in _KEEP_METHOD and can_repeat


def write_target(response: Response, request: Request, context: RequestContext) -> Url:
    """Return where a redirected request that writes is sent to.

    Raises:
        Invalid: `redirect-refused`.
    """
    url = _target(response, request)
    if url.origin != request.url.origin and not context.home.includes(url.origin):
        raise _refused(
            f"{request.url.origin} redirects an upload to {url.origin}: name that host in other_hosts of "
            f"{context.home.name}, if it belongs to it"
        )
    return url


def _target(response: Response, request: Request) -> Url:
    response.drain()
    location = response.headers.get("Location")
    if not location:
        raise _refused(f"{request.url} redirects to nowhere")
    url = request.url.join(location)
    if request.url.origin.scheme == "https" and url.origin.scheme != "https":
        raise _refused(f"{request.url.origin} redirects to plain http")
    return url


def _headers(request: Request, url: Url, first: Origin) -> Mapping[str, str]:
    """Return the headers for another place; `Authorization` goes to the first origin alone."""
    return {
        name: value
        for name, value in request.headers.items()
        if url.origin == first or name != "Authorization"
    }


def _refused(detail: str) -> Invalid:
    return Invalid("registry", ErrorCode.REDIRECT_REFUSED, detail)
