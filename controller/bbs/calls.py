"""Makes requests to the BBS over HTTP, with time limits, and retries those that only read.

A call that may change something asks whether this process still may, at the last moment before its bytes go
out: the BBS has no conditional write, and the call may have waited for a connection or a handshake since it
was decided on.

Whether a desire, a remove or an update had an effect is unknown when its response was lost: the caller
must observe again and then decide.

Source: cloudfoundry/bbs client.go and handlers/middleware.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from google.protobuf.message import DecodeError, Message
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from controller.bbs.bbs_errors import SYSTEM, error_from_exception, error_from_message, error_from_response
from controller.tracing import request_id
from protos.bbs.task_requests_pb2 import TaskLifecycleResponse
from reconcile.errors import DockerCacheError, Invalid, RateLimited, Unavailable
from reconcile.lease import always

PROTOBUF = "application/x-protobuf"
_SENDING = frozenset({"http11.send_request_headers.started", "http11.send_request_body.started"})
"""What httpcore tells before it writes each part of a request; the BBS acts when it has the whole body."""

MAX_BODY = 256 * 1024 * 1024  # bytes of a response that is read as a whole

M = TypeVar("M", bound=Message)


def retrying() -> AsyncRetrying:
    """Attempt a read at most 5 times, with no new attempt after 30 seconds."""
    return AsyncRetrying(
        retry=retry_if_exception_type(Unavailable) & retry_if_not_exception_type(RateLimited),
        wait=wait_random_exponential(multiplier=0.1, max=5.0),  # seconds
        stop=stop_after_attempt(5) | stop_after_delay(30.0),
        reraise=True,
    )


@dataclass(frozen=True, slots=True)
class Calls:
    """Makes calls through one connection pool.

    Attributes:
        timeout: Seconds that one attempt may take, from its start to the last byte.
        check_active: Raises `LeaseLost` when this process must not change anything any more, or another error
            when it must not now.
    """

    http: httpx.AsyncClient
    timeout: float
    check_active: Callable[[], None] = always

    async def call(self, path: str, *, request: Message) -> None:
        """Make a call that may change something, with one attempt; its response holds at most an error.

        Raises:
            LeaseLost: This process is not the active one, and the call was not made.
        """
        self.check_active()
        changing = self._request(path, request)
        changing.extensions["trace"] = self._check_before_sending
        await self._attempt(changing, TaskLifecycleResponse)

    async def _check_before_sending(self, event: str, _: dict[str, Any]) -> None:
        """Take httpcore's word of what it does next; what is raised here breaks off the request."""
        if event in _SENDING:
            self.check_active()

    async def read(self, path: str, *, answer: type[M], request: Message | None = None) -> M:
        """Make a call that changes nothing, with retries."""
        return await retrying()(self._attempt, self._request(path, request), answer)

    @asynccontextmanager
    async def open_body(self, path: str, *, request: Message | None = None) -> AsyncIterator[httpx.Response]:
        """Make a call that changes nothing, and yield its response before the body is read.

        Only the part before the body is retried. Each piece of the body may take the whole timeout.
        """
        response: httpx.Response = await retrying()(self._open_in_time, self._request(path, request))
        try:
            yield response
        finally:
            await response.aclose()

    def _request(self, path: str, message: Message | None) -> httpx.Request:
        headers = {"Content-Type": PROTOBUF, "X-Vcap-Request-Id": request_id()}
        content = b"" if message is None else message.SerializeToString()
        return self.http.build_request("POST", path, content=content, headers=headers)

    async def _attempt(self, request: httpx.Request, answer: type[M]) -> M:
        path = request.url.path
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._open(request)
                try:
                    body = await _read_body(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            raise error_from_exception(error, call=str(request.url)) from error
        try:
            # Every response but a ping's has its error in field 1, and this message has no other field.
            lifecycle = TaskLifecycleResponse.FromString(body)
            message = answer.FromString(body)
        except DecodeError as error:
            raise Unavailable(SYSTEM, "InvalidResponse", f"{path}: {error}") from error
        if lifecycle.HasField("error"):
            raise error_from_message(lifecycle.error, call=path)
        return message

    async def _open_in_time(self, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout(self.timeout):
                return await self._open(request)
        except (httpx.HTTPError, TimeoutError) as error:
            raise error_from_exception(error, call=str(request.url)) from error

    async def _open(self, request: httpx.Request) -> httpx.Response:
        response = await self.http.send(request, stream=True)
        failure = error_from_response(response, call=request.url.path) or _misframed(response)
        if failure is not None:
            # The body stays unread, so that its connection is closed: the host may have other addresses now.
            await response.aclose()
            raise failure
        return response


def _misframed(response: httpx.Response) -> DockerCacheError | None:
    path = response.request.url.path
    if not response.headers.get("Content-Type", "").startswith(PROTOBUF):
        return Invalid(SYSTEM, "InvalidResponse", f"{path}: the response is not {PROTOBUF}")
    if "Content-Length" not in response.headers and "Transfer-Encoding" not in response.headers:
        # The end of such a body looks like a lost connection.
        return Unavailable(SYSTEM, "InvalidResponse", f"{path}: the response does not say how long it is")
    return None


async def _read_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY:
            detail = f"{response.request.url.path}: a response of more than {MAX_BODY} bytes"
            raise Invalid(SYSTEM, "InvalidResponse", detail)
    return bytes(body)
