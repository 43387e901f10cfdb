"""Sends the requests for one image to its registry, with login, redirects, retries and back-off.

The credentials of a copy are used as they are. Without them, the operator's are looked up when the
registry first asks for a login, and again when it refuses them.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from controller.registry.auth.authenticator import Authenticator
from controller.registry.auth.challenges import choose_challenge
from controller.registry.auth.keychain import Keychain
from controller.registry.auth.tokens import Identity
from controller.registry.http.backoff_state import BackoffStates
from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.redirects import follow
from controller.registry.http.refusals import Refusal, error_from_refusal
from controller.registry.http.request import Request, RequestContext
from controller.registry.http.response import Response
from controller.registry.http.retries import retrying
from controller.registry.http.settings import Retries, Timeouts
from controller.registry.http.urls import Url
from reconcile.errors import Denied, DockerCacheError, ErrorCode, RateLimited, Unavailable
from reconcile.lrps import Credentials
from reconcile.references import ImageReference

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class SessionDependencies:
    """The parts that all sessions share."""

    pool: ConnectionPool
    authenticator: Authenticator
    keychain: Keychain
    backoff_states: BackoffStates
    retries: Retries
    timeouts: Timeouts


class Session:
    """Requests for one image with one identity, for one piece of work.

    Attributes:
        base: URL of the registry's API.
        timeouts: How long requests may take.
    """

    def __init__(
        self,
        image: ImageReference,
        base: Url,
        dependencies: SessionDependencies,
        *,
        credentials: Credentials | None,
        context: RequestContext,
    ) -> None:
        self.image, self.base = image, base
        self.timeouts = dependencies.timeouts
        self._dependencies, self._context = dependencies, context
        self._lock = threading.Lock()
        self._is_given = credentials is not None
        self._is_looked_up = self._is_given
        self._credentials = credentials
        self._retrying = retrying(dependencies.retries, context.cancellation)

    def url(self, path: str) -> Url:
        """Return the URL of a path within the repository."""
        return Url(self.base.origin, f"{self.base.target}{self.image.path}/{path}")

    def subject(self, version: str) -> str:
        """Return a tag or a digest with its repository, for messages."""
        return f"{self.image.repository}{'@' if ':' in version else ':'}{version}"

    def retry(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Call an idempotent function, and repeat it by the retry policy."""
        return self._retrying(function, *arguments)

    def error(self, response: Response, attempted: str) -> DockerCacheError:
        """Turn an unexpected response into an error."""
        return error_from_refusal(self.refusal(response, attempted))

    def refusal(self, response: Response, attempted: str) -> Refusal:
        """Read an unexpected response."""
        return Refusal(
            response.status, response.headers, response.drain(), attempted, self.identity("").secrets
        )

    def identity(self, subject: str) -> Identity:
        """Return whose credentials are used, as far as they have been looked up."""
        return Identity(self.base, self._credentials, subject)

    def send(self, request: Request, scopes: frozenset[str], subject: str) -> Response:
        """Send a request that may be repeated, with the `Authorization` that the registry asks for."""
        try:
            response = self._send(request, scopes, subject)
        except Denied as error:
            if error.code != ErrorCode.BAD_CREDENTIALS or not self._adopt_newer_login():
                raise
            return self._send(request, scopes, subject)
        if self._is_refused(response) and self._adopt_newer_login():
            response.drain()
            return self._send(request, scopes, subject)
        return response

    def header(self, scopes: frozenset[str], subject: str) -> str | None:
        """Return the `Authorization` for a request that cannot be repeated."""
        if not self._dependencies.authenticator.has_challenged(self.base):
            return None
        self._look_up_login()
        try:
            return self._dependencies.authenticator.header(self.identity(subject), scopes, self._context)
        except Denied as error:
            if error.code != ErrorCode.BAD_CREDENTIALS or not self._adopt_newer_login():
                raise
        return self._dependencies.authenticator.header(self.identity(subject), scopes, self._context)

    def send_once(self, request: Request, header: str | None) -> Response:
        """Send a request once; the `Authorization` is sent to the registry's own origin alone."""
        is_pull = request.method == "GET" and "/manifests/" in request.url.target
        backoff = self._dependencies.backoff_states.of((self.base.origin, self._credentials))
        while (delay := backoff.delay(is_pull=is_pull)).seconds > 0:
            if delay.seconds > self._dependencies.retries.longest_wait:
                detail = f"{self.base.origin} asked for no more requests for {delay.seconds:.0f} seconds"
                kind = Unavailable if delay.reason == "unavailable" else RateLimited
                raise kind("registry", delay.reason, detail, retry_after=delay.seconds)
            self._context.cancellation.wait(delay.seconds)
        if header is not None and request.url.origin == self.base.origin:
            request = replace(request, headers={**request.headers, "Authorization": header})
        if request.method in {"GET", "HEAD"}:
            response = follow(self._dependencies.pool, request, self._context)
        else:
            response = self._dependencies.pool.send(request, self._context)
        backoff.observe(response.status, response.headers)
        return response

    def fetch_elsewhere(self, request: Request) -> Response:
        """Fetch something from another host, without any login."""
        return follow(self._dependencies.pool, request, self._context)

    def may_be_accepted(
        self, response: Response, scopes: frozenset[str], *, refused: str | None, subject: str
    ) -> bool:
        """Whether a request that was refused may be accepted when it is sent again from its start."""
        if not self._is_refused(response):
            return False
        response.drain()
        try:
            other = self._next_header(response, scopes, refused=refused, subject=subject)
        except Denied as error:
            if error.code != ErrorCode.BAD_CREDENTIALS or not self._adopt_newer_login():
                raise
            return True
        return other is not None or self._adopt_newer_login()

    def _send(self, request: Request, scopes: frozenset[str], subject: str) -> Response:
        """Send a request, and answer at most two challenges."""
        header = self.header(scopes, subject)
        for _ in range(2):
            response = self.send_once(request, header)
            if not self._is_refused(response):
                return response
            response.drain()  # the token may be fetched over the same connection
            other = self._next_header(response, scopes, refused=header, subject=subject)
            if other is None:
                return response
            header = other
        return self.send_once(request, header)

    def _next_header(
        self, response: Response, scopes: frozenset[str], *, refused: str | None, subject: str
    ) -> str | None:
        challenge = choose_challenge(response.headers.get_all("WWW-Authenticate") or ())
        if challenge is not None:
            self._look_up_login()
        return self._dependencies.authenticator.next_header(
            self.identity(subject), challenge, scopes, refused=refused, context=self._context
        )

    def _is_refused(self, response: Response) -> bool:
        return response.status == 401 and response.url.origin == self.base.origin

    def _look_up_login(self) -> None:
        with self._lock:
            if not self._is_looked_up:
                self._credentials = self._dependencies.keychain.find(self.image)
                self._is_looked_up = True

    def _adopt_newer_login(self) -> bool:
        """Look up the operator's login again, and return whether it is another than the refused one."""
        with self._lock:
            if self._is_given or not self._is_looked_up:
                return False
            found = self._dependencies.keychain.find(self.image, refused=self._credentials)
            if found is None or found == self._credentials:
                return False
            self._credentials = found
            return True
