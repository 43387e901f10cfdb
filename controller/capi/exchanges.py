"""Sends single requests to Cloud Controller or UAA and reads their whole answers, within bounds.

Whether this process is still the active instance is asked at the last moment before bytes go out, and for
reads too: all requests to the platform's API come from one instance.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from controller.capi.capi_errors import SYSTEM, ApiAnswer, effect_unknown, error_from_exception
from reconcile.errors import ErrorCode, Invalid

MAX_BODY = 64 << 20
"""Bytes of an answer; a page of a thousand droplets has some three million."""

_SENDING = frozenset({"http11.send_request_headers.started", "http11.send_request_body.started"})
"""What httpcore tells before it writes each part of a request."""


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Sends requests through one connection pool, each once.

    Attributes:
        timeout: Seconds from the start of a request to the last byte of its answer.
        check_active: Raises `LeaseLost` when this process must not ask anything any more.
        answered: Is told of each answer, and how many seconds it took.
    """

    http: httpx.AsyncClient
    timeout: float
    check_active: Callable[[], None]
    answered: Callable[[ApiAnswer, float], None]

    async def send(self, request: httpx.Request, *, system: str = SYSTEM) -> ApiAnswer:
        """Send a request.

        Raises:
            LeaseLost: Another instance may be active; nothing was sent.
            Unavailable: There was no whole answer.
            Denied: One side refused the other's certificate.
            Invalid: The answer is too large.
        """
        self.check_active()
        request_id = uuid4().hex
        request.headers["X-Vcap-Request-Id"] = request_id
        request.extensions["trace"] = self._check_before_sending
        call = f"{request.method} {request.url.path}"
        is_change = system == SYSTEM and request.method != "GET"  # a token that is lost changes nothing
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.http.send(request, stream=True)
                try:
                    body = await _read(response, system=system, call=call)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            raise error_from_exception(
                error,
                system=system,
                call=f"{request.method} {_without_query(request.url)}",
                is_change=is_change,
            ) from error
        except Invalid as error:
            if is_change:
                raise effect_unknown(error) from error
            raise
        answer = ApiAnswer(call, response.status_code, response.headers, body, request_id)
        self.answered(answer, time.monotonic() - started)
        return answer

    async def _check_before_sending(self, event: str, _: dict[str, Any]) -> None:
        """Take httpcore's word of what it does next; what is raised here breaks off the request."""
        if event in _SENDING:
            self.check_active()


def _without_query(url: httpx.URL) -> str:
    return str(url.copy_with(query=None))


async def _read(response: httpx.Response, *, system: str, call: str) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY:
            raise Invalid(system, ErrorCode.BAD_ANSWER, f"{call}: an answer of more than {MAX_BODY} bytes")
    return bytes(body)
