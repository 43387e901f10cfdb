"""Makes calls to Cloud Controller's API: within the budget, and once more with a new token after a 401.

Reads are repeated where there was no connection. Whether a change had an effect is unknown when its answer
was lost or was a failure of the server: the caller must look again and then decide.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import httpx
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from controller.capi.capi_errors import SYSTEM, ApiAnswer, effect_unknown, error_from_response
from controller.capi.documents import JsonObject, document_of
from controller.capi.exchanges import Exchanges
from controller.capi.gate import RequestGate
from controller.capi.scopes import READ_ALL, missing_scopes, reads_all
from controller.capi.settings import PER_PAGE
from controller.capi.state import ApiState
from controller.capi.uaa import UaaToken, UaaTokens
from reconcile.cloud_controller_status import ApiCall
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, Unavailable
from reconcile.request_budget import RequestUse

MakeRequest = Callable[[], httpx.Request]

_UNAUTHORIZED = 401

_LISTS_OF_ALL = frozenset({ApiCall.LIST_DROPLETS, ApiCall.LIST_BUILDS})
"""Lists that are taken to be complete: a copy that no listed droplet names may be deleted."""


def _had_no_connection(error: BaseException) -> bool:
    return isinstance(error, Unavailable) and error.code == ErrorCode.CONNECTION_FAILED


def retrying() -> AsyncRetrying:
    """Attempt a read at most 3 times, with no new attempt after 10 seconds."""
    return AsyncRetrying(
        retry=retry_if_exception(_had_no_connection),
        wait=wait_random_exponential(multiplier=0.2, max=2.0),  # seconds
        stop=stop_after_attempt(3) | stop_after_delay(10.0),
        reraise=True,
    )


@dataclass(frozen=True, slots=True)
class ApiCalls:
    """Makes calls.

    Attributes:
        api_url: URL of the API, without a slash at its end.
        use: What the budget counts requests as that read; a change follows one of these at once.
        per_page: Items on a page of a list.
    """

    exchanges: Exchanges
    api_url: str
    tokens: UaaTokens
    gate: RequestGate
    state: ApiState
    use: RequestUse = RequestUse.URGENT
    per_page: int = PER_PAGE

    def for_background(self) -> "ApiCalls":
        """Return the same calls as the background makes them."""
        return replace(self, use=RequestUse.BACKGROUND)

    async def read(self, call: ApiCall, path: str, params: Mapping[str, str] | None = None) -> JsonObject:
        """Make a call that changes nothing.

        Args:
            call: Its name.
            path: Begins with a slash; or a whole URL, whose origin the caller has checked.
            params: Of the query; None leaves that of the URL.

        Raises:
            NotFound: It is not there.
            Denied: Among others, for a list from which some may be missing that the client cannot see.
        """
        url = path if params is None and "://" in path else f"{self.api_url}{path}"
        document: JsonObject = await retrying()(self._attempt, call, "GET", url, params=params)
        return document

    async def change(self, call: ApiCall, path: str, body: JsonObject) -> JsonObject:
        """Make a call that may change something, with one attempt; raises as `read`."""
        return await self._attempt(call, "PATCH", f"{self.api_url}{path}", body=body)

    async def _attempt(
        self,
        call: ApiCall,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
    ) -> JsonObject:
        http = self.exchanges.http
        try:
            answer, token = await self._send(
                lambda: http.build_request(method, url, params=params, json=body),
                is_change=body is not None,
            )
            error = error_from_response(answer, may_have_happened=body is not None)
            if error is not None:
                raise self._explained(error, token, is_read=body is None)
            if call in _LISTS_OF_ALL and not reads_all(token.scopes):
                raise self._hidden(token, "not listed", answer.described("some may be missing"))
            document = await _document_of(answer, is_change=body is not None)
        except DockerCacheError as error:
            self.state.failed(call, error)
            raise
        self.state.succeeded(call)
        return document

    def _explained(self, error: DockerCacheError, token: UaaToken, *, is_read: bool) -> DockerCacheError:
        """Say what the token lacks, where that is why something is refused or hidden; it is renewed soon."""
        if is_read and isinstance(error, NotFound) and not reads_all(token.scopes):
            return self._hidden(token, "answered as if it were not there", error.detail)
        missing = missing_scopes(token.scopes, updates=not is_read)
        if error.code == ErrorCode.CLOUD_CONTROLLER_SCOPE_MISSING and missing:
            self.tokens.outdate(token)
            return Denied(SYSTEM, error.code, f"the UAA client lacks {', '.join(missing)}: {error.detail}")
        return error

    def _hidden(self, token: UaaToken, how: str, detail: str) -> Denied:
        self.tokens.outdate(token)
        explanation = f"what the client cannot see is {how}: it lacks {READ_ALL}: {detail}"
        return Denied(SYSTEM, ErrorCode.CLOUD_CONTROLLER_SCOPE_MISSING, explanation)

    async def _send(self, make: MakeRequest, *, is_change: bool) -> tuple[ApiAnswer, UaaToken]:
        use = self._change_use if is_change else self.use
        await self._admit(use)  # before a token is looked for: one may end while its request waits
        token = await self.tokens.token()
        answer = await self._send_with(make, token)
        if answer.status == _UNAUTHORIZED:  # nothing was done, so a change is sent again too
            await self._admit(use)
            token = await self.tokens.renewed(token)
            answer = await self._send_with(make, token)
        return answer, token

    @property
    def _change_use(self) -> RequestUse:
        is_background = self.use is RequestUse.BACKGROUND
        return RequestUse.BACKGROUND_CHANGE if is_background else RequestUse.URGENT

    async def _admit(self, use: RequestUse) -> None:
        self.exchanges.check_active()
        await self.gate.admit(use)

    async def _send_with(self, make: MakeRequest, token: UaaToken) -> ApiAnswer:
        request = make()
        request.headers["Authorization"] = f"bearer {token.text}"
        answer = await self.exchanges.send(request)
        self.gate.observe(answer.status, answer.headers)
        return answer


async def _document_of(answer: ApiAnswer, *, is_change: bool) -> JsonObject:
    try:
        return await document_of(answer)
    except Invalid as error:
        if is_change:
            raise effect_unknown(error) from error
        raise
