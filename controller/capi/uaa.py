"""Gets tokens of UAA by the client's own credentials, and keeps the present one until it is to be renewed.

A secret that was refused is not sent again for a while, unless its file has changed: UAA locks a client out
after some refusals.
Source: RFC 6749 section 4.4; uaa docs/UAA-Security.md; cloudfoundry/uaa TokenEndpoint.
"""

import asyncio
import base64
import copy
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from controller.capi.capi_errors import SYSTEM, UAA, ApiAnswer, error_from_uaa, misunderstood
from controller.capi.documents import document_of
from controller.capi.exchanges import Exchanges
from controller.capi.scopes import scopes_of
from controller.file_values import FileValue
from reconcile.errors import Denied, DockerCacheError, ErrorCode, LeaseLost, Unavailable
from reconcile.lrps import Secret

DEFAULT_LIFETIME = 600.0
"""Seconds that a token is used whose lifetime UAA does not state."""

_MARGIN = 0.1
"""Share of its lifetime before the end of a token in which it is renewed."""

_LONGEST_MARGIN = 300.0  # seconds
_AFTER_FAILURE = 5.0  # seconds in which those that need a token share one failure
_AFTER_REFUSAL = 60.0  # seconds until a refused secret is sent again, or a token without a scope is renewed
_MOST_RENEWALS = 3
"""Tokens in a minute that are fetched because Cloud Controller refuses the one before."""

_MAX_LENGTH = 64 * 1024  # characters of a token


@dataclass(frozen=True, slots=True)
class UaaClient:
    """The client that the daemon is for UAA.

    Attributes:
        secret: Follows its file.
    """

    client_id: str
    secret: FileValue[Secret]


@dataclass(frozen=True, slots=True)
class UaaToken:
    """A token, whose text is shown nowhere.

    Attributes:
        renew_at: When it is to be renewed, by a clock that does not jump.
        ends_at: When it is refused.
    """

    text: str = field(repr=False)
    scopes: frozenset[str]
    renew_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class _Failure:
    error: DockerCacheError
    until: float
    secret: Secret | None

    def again(self, now: float) -> DockerCacheError:
        """Return the error for another who needs a token."""
        error = copy.copy(self.error)
        if isinstance(error, Unavailable):
            error.retry_after = self.until - now
        return error


class UaaTokens:
    """The tokens of one client.

    Args:
        exchanges: Sends requests.
        find_uaa: Finds the URL of UAA.
        client: See there.
        clock: Gives seconds of a clock that does not jump.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        find_uaa: Callable[[], Awaitable[str]],
        client: UaaClient,
        clock: Callable[[], float],
    ) -> None:
        self._exchanges, self._find_uaa, self._client, self._clock = exchanges, find_uaa, client, clock
        self._fetching = asyncio.Lock()
        self._token: UaaToken | None = None
        self._fetched_at = 0.0
        self._failure: _Failure | None = None
        self._renewals = deque[float]()

    @property
    def known(self) -> UaaToken | None:
        """The present token; None before the first one."""
        return self._token

    async def token(self) -> UaaToken:
        """Return a token that is valid, as far as can be told.

        Raises:
            Denied: `uaa-client-refused`.
            Unavailable: UAA, or the API that names it, does not answer, or refuses for a time.
            Invalid: It cannot be found, or its answer is not understood.
        """
        if (token := self._token) is not None and self._clock() < token.renew_at:
            return token
        async with self._fetching:
            now, token = self._clock(), self._token
            if token is None or now >= token.ends_at:
                return await self._fetch_once()
            if now < token.renew_at:  # somebody else has renewed it
                return token
            try:
                return await self._fetch_once()
            except LeaseLost:
                raise
            except DockerCacheError:  # the old one is good for a while, and is renewed later
                return token

    async def renewed(self, refused: UaaToken) -> UaaToken:
        """Return another token than one that was refused; raises as `token`.

        Raises:
            Denied: `cloud-controller-token-refused`: so were those before it.
        """
        async with self._fetching:
            if self._token is not None and self._token.text != refused.text:
                return self._token
            if self._token is None:  # another request had it refused as well, and none has come since
                return await self._fetch_once()
            now = self._clock()
            while self._renewals and self._renewals[0] <= now - _AFTER_REFUSAL:
                self._renewals.popleft()
            if len(self._renewals) >= _MOST_RENEWALS:
                detail = f"it has refused {_MOST_RENEWALS} tokens of UAA within a minute"
                raise Denied(SYSTEM, ErrorCode.CLOUD_CONTROLLER_TOKEN_REFUSED, detail)
            self._renewals.append(now)
            self._token = None
            return await self._fetch_once()

    def outdate(self, token: UaaToken) -> None:
        """Renew a token that lacks a scope a minute after it was fetched: the client may get it meanwhile."""
        if self._token is token:
            self._token = replace(token, renew_at=min(token.renew_at, self._fetched_at + _AFTER_REFUSAL))

    async def _fetch_once(self) -> UaaToken:
        """Fetch a token, unless that has just failed."""
        now, secret = self._clock(), await self._client.secret.follow()
        failure = self._failure
        if failure is not None and now < failure.until and failure.secret in {None, secret}:
            raise failure.again(now)
        self._failure = None
        try:
            self._token = await self._fetch(secret)
        except LeaseLost:
            raise
        except DockerCacheError as error:
            self._failure = _failure(error, self._clock(), secret)
            raise
        self._fetched_at = now
        return self._token

    async def _fetch(self, secret: Secret) -> UaaToken:
        url = await self._find_uaa()
        login = f"{self._client.client_id}:{secret.value}".encode()
        request = self._exchanges.http.build_request(
            "POST",
            f"{url}/oauth/token",
            data={"grant_type": "client_credentials", "token_format": "jwt"},
            headers={
                "Accept": "application/json",
                "Authorization": f"Basic {base64.b64encode(login).decode()}",
            },
        )
        started = self._clock()
        answer = await self._exchanges.send(request, system=UAA)
        error = error_from_uaa(answer, client_id=self._client.client_id, secret=secret.value)
        if error is not None:
            raise error
        return await _token_in(answer, started)


async def _token_in(answer: ApiAnswer, started: float) -> UaaToken:
    document = await document_of(answer, system=UAA)
    text, lifetime = document.get("access_token"), document.get("expires_in")
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_LENGTH or not _is_visible(text):
        raise misunderstood(answer, system=UAA, what="the answer has no token")
    seconds = float(lifetime) if isinstance(lifetime, int) and 0 < lifetime < 1 << 40 else DEFAULT_LIFETIME
    margin = min(_LONGEST_MARGIN, seconds * _MARGIN)
    scopes = scopes_of(text, document.get("scope"))
    return UaaToken(text, scopes, started + seconds - margin, started + seconds)


def _is_visible(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _failure(error: DockerCacheError, now: float, secret: Secret) -> _Failure:
    if isinstance(error, Denied):
        return _Failure(error, now + _AFTER_REFUSAL, secret)
    named = error.retry_after if isinstance(error, Unavailable) else None
    return _Failure(error, now + (named or _AFTER_FAILURE), None)
