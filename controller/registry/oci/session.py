"""Sends the requests for one image to its registry, with login, redirects, retries and back-off.

The login is looked up when the registry first asks for one, and again when the registry refuses it.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from controller.backoff import backoff
from controller.registry.auth.challenges import Challenge, choose_challenge
from controller.registry.auth.tokens import Identity
from controller.registry.http.redirects import (
    MAX_REDIRECTS,
    follow,
    follow_write,
    is_redirected_upload,
    write_target,
)
from controller.registry.http.refusals import Refusal, error_from_refusal, parse_remaining
from controller.registry.http.request import Request, RequestContext
from controller.registry.http.response import Response
from controller.registry.http.retries import retrying
from controller.registry.http.urls import Url
from controller.registry.oci.session_dependencies import SessionDependencies
from controller.threads import Cancellation
from reconcile.answers import RegistryCall
from reconcile.errors import (
    Denied,
    DockerCacheError,
    ErrorCode,
    LeaseLost,
    NotFound,
    RateLimited,
    Unavailable,
    Verdict,
)
from reconcile.health import Exchange, Failure, RegistryUse
from reconcile.hosts import canonical_host
from reconcile.lrps import Credentials
from reconcile.references import ImageReference

ResultT = TypeVar("ResultT")

_HEALTHY_ERRORS = frozenset({404, 410, 429})
"""Error statuses of a healthy registry: what was asked for is not there, or requests come too often."""

_MAY_LACK_CHALLENGE = frozenset({401, 403, 404})
"""Statuses by which some registries refuse a request without a login, and send no challenge with them."""

_TOTAL_AT_BASE = 10.0
"""Seconds for a request to the base of the API, for which other requests may wait."""

_DELETE = "DELETE"
"""Many registries allow no deletion: how it ends says nothing about them."""

_STORING = frozenset({"POST", "PUT", "PATCH"})
_STORED = frozenset({200, 201, 204})

_WITH_ALTERNATIVE = frozenset(
    {RegistryCall.LOOK_UP_MANIFEST, RegistryCall.LOOK_UP_BLOB, RegistryCall.MOUNT_BLOB}
)
"""Calls whose refusal says nothing about the registry, where another request can take their place."""


class Session:
    """The requests for one image with one identity, within one piece of work.

    Attributes:
        image: The image that the requests are about.
        base: The URL of the registry's API.
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
        self._own_credentials = credentials
        self._has_looked_up = False
        self._credentials = credentials
        self._adoptions = 0
        self._thread = threading.local()
        self._retrying = retrying(dependencies.retries, context.cancellation)
        self._pause = backoff(dependencies.retries.first_wait, dependencies.retries.longest_wait)

    def url(self, path: str) -> Url:
        """Return the URL of a path within the repository."""
        return Url(self.base.origin, f"{self.base.target}{self.image.path}/{path}")

    def subject(self, tag_or_digest: str) -> str:
        """Return the repository with a tag or a digest, for messages."""
        return f"{self.image.repository}{'@' if ':' in tag_or_digest else ':'}{tag_or_digest}"

    def retry(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Call an idempotent function, and repeat it according to the retry policy."""
        return self._retrying(function, *arguments)

    def pause(self, attempt: int) -> None:
        """Wait before another attempt at what failed so many times; longer each time."""
        self._context.cancellation.wait(self._pause(attempt))

    def error(
        self, response: Response, subject: str, call: RegistryCall = RegistryCall.OTHER
    ) -> DockerCacheError:
        """Read an unexpected response, and return the error that it means."""
        return self.error_of(self.refusal(response, subject, call))

    def error_of(self, refusal: Refusal) -> DockerCacheError:
        """Return the error that a refusal means, and let the observer know of it."""
        error = error_from_refusal(refusal)
        has_other_way = error.verdict is Verdict.OTHER_WAY or isinstance(error, NotFound)
        is_of_one_upload = has_other_way and isinstance(error, Unavailable) and refusal.status < 500
        if not is_of_one_upload and not (has_other_way and refusal.call in _WITH_ALTERNATIVE):
            self._report(refusal.method, Failure(error, refusal.length, refusal.status))
        return error

    def refusal(self, response: Response, subject: str, call: RegistryCall = RegistryCall.OTHER) -> Refusal:
        """Read an unexpected response into a refusal."""
        return Refusal(
            response.status,
            response.headers,
            response.drain(),
            subject if call is RegistryCall.OTHER else f"{subject} ({call})",
            (*self.identity("").secrets, *response.secrets),
            method=response.method,
            length=response.sent,
            side=self._context.side,
            call=call,
        )

    def identity(self, subject: str) -> Identity:
        """Return the identity for requests; it has credentials once they have been looked up."""
        with self._lock:
            self._thread.adoptions = self._adoptions
            return Identity(self.base, self._credentials, subject)

    def send(self, request: Request, scopes: frozenset[str], subject: str) -> Response:
        """Send a request that may be repeated, with the `Authorization` that the registry asks for."""
        try:
            return self._send_with_newer_login(request, scopes, subject)
        except DockerCacheError as error:
            self._report(request.method, Failure(error, request.length))
            raise

    def _send_with_newer_login(self, request: Request, scopes: frozenset[str], subject: str) -> Response:
        try:
            response = self._send(request, scopes, subject)
        except Denied as error:
            if error.code != ErrorCode.BAD_CREDENTIALS or not self._adopt_newer_login():
                raise
            return self._send(request, scopes, subject)
        if self._may_need_other_login(response) and self._adopt_newer_login():
            response.drain()
            return self._send(request, scopes, subject)
        return response

    def header(self, scopes: frozenset[str], subject: str) -> str | None:
        """Return the `Authorization` for a request that cannot be repeated."""
        try:
            return self._header(scopes, subject)
        except DockerCacheError as error:
            self._report("PUT", Failure(error, 0))
            raise

    def _header(self, scopes: frozenset[str], subject: str) -> str | None:
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
        """Send a request once; the `Authorization` is sent only to the registry's own origin."""
        try:
            response = self._send_when_due(request, header)
        except DockerCacheError as error:
            self._report(request.method, Failure(error, request.length))
            raise
        is_well = response.status < 400 or response.status in _HEALTHY_ERRORS
        if is_well and request.method != _DELETE:
            stored = request.length if response.status in _STORED and request.method in _STORING else None
            self._dependencies.observer.answered(self._exchange(request.method), stored)
        return response

    def _send_when_due(self, request: Request, header: str | None) -> Response:
        is_pull = request.method == "GET" and "/manifests/" in request.url.target
        backoff = self._dependencies.backoff_states.of((self.base.origin, self._credentials))
        while (delay := backoff.delay(is_pull=is_pull)).seconds > 0:
            if delay.seconds > self._dependencies.retries.longest_wait:
                detail = f"{self.base.origin} asked to wait {delay.seconds:.0f} seconds before a request"
                kind = Unavailable if delay.reason == ErrorCode.UNAVAILABLE else RateLimited
                raise kind("registry", delay.reason, detail, retry_after=delay.seconds)
            self._context.cancellation.wait(delay.seconds)
        if header is not None and request.url.origin == self.base.origin:
            request = replace(request, headers={**request.headers, "Authorization": header})
        reads = request.method in {"GET", "HEAD"}
        if not reads:
            self._dependencies.check_active()
        send = follow if reads else follow_write
        response = send(self._dependencies.pool, request, self._context)
        backoff.observe(response.status, response.headers)
        left = parse_remaining(response.headers.get("RateLimit-Remaining"))
        if left is not None and response.url.origin == self.base.origin:
            self._dependencies.observer.stated(self._exchange(request.method), left)
        return response

    def send_urgently(self, request: Request, scopes: frozenset[str], subject: str) -> Response:
        """Send a request without waiting for a free connection, even after the work was cancelled."""
        request = replace(request, is_urgent=True)
        detached = replace(self._context, cancellation=Cancellation())
        session = Session(
            self.image,
            self.base,
            self._dependencies,
            credentials=self._own_credentials,
            context=detached,
        )
        with self._lock:  # a login is not looked up again, which may take a credential helper its time
            session._credentials, session._has_looked_up = self._credentials, self._has_looked_up
        return session.send(request, scopes, subject)

    def send_upload(self, request: Request, header: str | None) -> Response:
        """Send a request whose body is made of pieces, and send it again to where it is redirected.

        Raises:
            Invalid: `redirect-refused`.
        """
        for _ in range(MAX_REDIRECTS):
            response = self.send_once(request, header)
            if not is_redirected_upload(response, request):
                return response
            request = replace(request, url=write_target(response, request, self._context))
        return self.send_once(request, header)

    def send_to_url_of_image(self, request: Request) -> Response:
        """Send a request whose URL somebody wrote into an image: to a named host, or to any public one.

        It has no login, and nothing else of this session's registry unless the operator named the host.
        """
        is_named = request.url.origin in self._context.home.others
        context = self._context if is_named else self._context.for_foreign_host()
        return follow(self._dependencies.pool, request, context)

    def may_succeed_when_repeated(
        self, response: Response, scopes: frozenset[str], *, refused: str | None, subject: str
    ) -> bool:
        """Return whether a request that was refused may succeed when it is sent again from its start.

        Args:
            response: The response that refuses it.
            scopes: The scopes that the request needs.
            refused: The `Authorization` that was refused.
            subject: The name of the request's object in messages.
        """
        if not self._is_refused(response):
            return self._may_need_other_login(response) and self._adopt_newer_login()
        response.drain()
        challenge = _challenge_of(response)
        try:
            next_header = self._next_header(challenge, scopes, refused=refused, subject=subject)
        except Denied as error:
            if error.code != ErrorCode.BAD_CREDENTIALS or not self._adopt_newer_login():
                raise
            return True
        return next_header is not None or self._adopt_newer_login()

    def _send(self, request: Request, scopes: frozenset[str], subject: str) -> Response:
        """Send a request, and answer up to two challenges with another `Authorization`."""
        header = self._header(scopes, subject)
        for _ in range(2):
            response = self.send_once(request, header)
            challenge = None
            if self._is_refused(response):
                response.drain()  # the token may be fetched over the same connection
                challenge = _challenge_of(response)
            if challenge is None and header is None and response.status in _MAY_LACK_CHALLENGE:
                challenge = self._find_hidden_challenge(response)
            if challenge is None:
                return response
            next_header = self._next_header(challenge, scopes, refused=header, subject=subject)
            if next_header is None:
                return response
            header = next_header
        return self.send_once(request, header)

    def _find_hidden_challenge(self, response: Response) -> Challenge | None:
        """Ask the base of the API for a challenge after a refusal without one.

        Without a login this is done after a 401 only: an anonymous token can help after no other status.
        """
        if response.url.origin != self.base.origin:
            return None
        self._look_up_login()
        if self._credentials is None and response.status != 401:
            return None
        response.drain()
        return self._dependencies.hidden_challenges.find(self.base, self._ask_base)

    def _ask_base(self) -> Challenge | None:
        with self.send_once(Request("GET", self.base, total=_TOTAL_AT_BASE), None) as response:
            response.drain()
            return _challenge_of(response) if self._is_refused(response) else None

    def _next_header(
        self, challenge: Challenge | None, scopes: frozenset[str], *, refused: str | None, subject: str
    ) -> str | None:
        if challenge is not None:
            self._look_up_login()
        return self._dependencies.authenticator.next_header(
            self.identity(subject), challenge, scopes, refused=refused, context=self._context
        )

    def _report(self, method: str, failure: Failure) -> None:
        """Let the observer know of an error."""
        is_new = getattr(self._thread, "reported", None) is not failure.error  # it passes several levels
        if is_new and method != _DELETE and not isinstance(failure.error, LeaseLost):
            self._thread.reported = failure.error
            self._dependencies.observer.failed(self._exchange(method), failure)

    def _exchange(self, method: str) -> Exchange:
        has_login = self._own_credentials is None and self._credentials is not None
        use = RegistryUse.PULL if method in {"GET", "HEAD"} else RegistryUse.PUSH
        return Exchange(
            canonical_host(self.image.domain), self.image.path, use, has_operators_login=has_login
        )

    def _is_refused(self, response: Response) -> bool:
        return response.status == 401 and response.url.origin == self.base.origin

    def _may_need_other_login(self, response: Response) -> bool:
        """Whether a request may have been refused for its login: some registries answer 403 to an old one."""
        return response.status in {401, 403} and response.url.origin == self.base.origin

    def _look_up_login(self) -> None:
        with self._lock:
            if not self._has_looked_up:
                self._credentials = self._dependencies.keychain.find(self.image, own=self._own_credentials)
                self._has_looked_up = True

    def _adopt_newer_login(self) -> bool:
        """Look up the login again, and return whether it differs from the refused one."""
        with self._lock:
            if not self._has_looked_up:
                return False
            if getattr(self._thread, "adoptions", self._adoptions) != self._adoptions:
                return True  # another thread has adopted it since this one's request was sent
            found = self._dependencies.keychain.find(
                self.image, own=self._own_credentials, refused=self._credentials
            )
            if found is None or found == self._credentials:
                return False
            self._credentials = found
            self._adoptions += 1
            return True


def _challenge_of(response: Response) -> Challenge | None:
    return choose_challenge(response.headers.get_all("WWW-Authenticate") or ())
