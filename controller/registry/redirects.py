"""Follows redirects; `Authorization` stays with its origin."""

from dataclasses import replace

from controller.registry.answers import Answer
from controller.registry.errors import clean
from controller.registry.exchange import Request, Work
from controller.registry.transport import Transport
from reconcile.errors import Invalid

MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})


def follow(transport: Transport, request: Request, work: Work) -> Answer:
    """Send a GET or HEAD and follow its redirects.

    Raises:
        Invalid: `redirect-refused` for a loop, a downgrade to http or no target.
    """
    home = request.url.origin
    for _ in range(MAX_REDIRECTS + 1):
        answer = transport.send(request, work)
        if answer.status not in REDIRECTS:
            return answer
        answer.drain()
        location = answer.headers.get("Location")
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
