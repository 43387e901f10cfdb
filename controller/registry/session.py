"""Sends requests to one registry for one image, as the one who may: logins, redirects, holds and pace.

Credentials of a copy are used as they are. Without them the operator's are looked up when the
registry first asks for any, and again when it stops accepting them.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from controller.registry.answers import Answer
from controller.registry.auth import Authenticator
from controller.registry.challenges import choose_challenge
from controller.registry.errors import Refusal, error_from_refusal
from controller.registry.exchange import Request, Work
from controller.registry.keychain import Keychain
from controller.registry.pace import Paces
from controller.registry.redirects import follow
from controller.registry.retries import retrying
from controller.registry.settings import Retries, Timeouts
from controller.registry.tokens import Identity
from controller.registry.transport import Transport
from controller.registry.urls import Url
from reconcile.errors import Denied, DockerCacheError, RateLimited, Unavailable
from reconcile.images import ImageReference
from reconcile.lrps import Credentials

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions have in common."""

    transport: Transport
    authenticator: Authenticator
    keychain: Keychain
    paces: Paces
    retries: Retries
    timeouts: Timeouts


class Session:
    """One image's registry as one identity sees it, for the length of one piece of work.

    Attributes:
        base: The registry's API.
        timeouts: Limits of waiting.
    """

    def __init__(
        self, image: ImageReference, base: Url, shared: Shared, *, credentials: Credentials | None, work: Work
    ) -> None:
        self.image, self.base = image, base
        self.timeouts = shared.timeouts
        self._shared, self._work = shared, work
        self._lock = threading.Lock()
        self._is_given = credentials is not None
        self._is_known = self._is_given
        self._credentials = credentials
        self._retrying = retrying(shared.retries, work.cancellation)

    def url(self, path: str) -> Url:
        """Name something of the repository."""
        return Url(self.base.origin, f"{self.base.target}{self.image.path}/{path}")

    def subject(self, version: str) -> str:
        """Name a tag or a digest for messages."""
        return f"{self.image.repository}{'@' if ':' in version else ':'}{version}"

    def retry(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Repeat an idempotent call by the one policy."""
        return self._retrying(function, *arguments)

    def error(self, answer: Answer, attempted: str) -> DockerCacheError:
        """Say what an answer that was not hoped for means."""
        return error_from_refusal(self.refusal(answer, attempted))

    def refusal(self, answer: Answer, attempted: str) -> Refusal:
        """Read an answer that was not hoped for."""
        return Refusal(answer.status, answer.headers, answer.drain(), attempted, self.identity("").secrets)

    def identity(self, subject: str) -> Identity:
        """Tell who asks, as far as that has been looked up."""
        return Identity(self.base, self._credentials, subject)

    def send(self, request: Request, scopes: frozenset[str], subject: str) -> Answer:
        """Send a request that may be repeated, with what the registry wants to see."""
        try:
            answer = self._send(request, scopes, subject)
        except Denied as error:
            if error.code != "bad-credentials" or not self._look_again():
                raise
            return self._send(request, scopes, subject)
        if self._is_refused(answer) and self._look_again():
            answer.drain()
            return self._send(request, scopes, subject)
        return answer

    def header(self, scopes: frozenset[str], subject: str) -> str | None:
        """Give the `Authorization` of a request that cannot be repeated."""
        if not self._shared.authenticator.has_challenged(self.base):
            return None
        self._look_up()
        try:
            return self._shared.authenticator.header(self.identity(subject), scopes, self._work)
        except Denied as error:
            if error.code != "bad-credentials" or not self._look_again():
                raise
        return self._shared.authenticator.header(self.identity(subject), scopes, self._work)

    def send_once(self, request: Request, header: str | None) -> Answer:
        """Send a request as it is; the `Authorization` goes to the registry's own origin alone."""
        is_pull = request.method == "GET" and "/manifests/" in request.url.target
        pace = self._shared.paces.of((self.base.origin, self._credentials))
        while (wait := pace.ask(is_pull=is_pull)).seconds > 0:
            if wait.seconds > self._shared.retries.longest_wait:
                detail = f"{self.base.origin} asked for {wait.seconds:.0f} more seconds of quiet"
                kind = Unavailable if wait.reason == "unavailable" else RateLimited
                raise kind("registry", wait.reason, detail, retry_after=wait.seconds)
            self._work.cancellation.wait(wait.seconds)
        if header is not None and request.url.origin == self.base.origin:
            request = replace(request, headers={**request.headers, "Authorization": header})
        if request.method in {"GET", "HEAD"}:
            answer = follow(self._shared.transport, request, self._work)
        else:
            answer = self._shared.transport.send(request, self._work)
        pace.observe(answer.status, answer.headers)
        return answer

    def fetch_elsewhere(self, request: Request) -> Answer:
        """Read something that the registry does not hold, without any login."""
        return follow(self._shared.transport, request, self._work)

    def meets(self, answer: Answer, scopes: frozenset[str], *, refused: str | None, subject: str) -> bool:
        """Whether a refused request may be accepted the next time, from its start."""
        if not self._is_refused(answer):
            return False
        answer.drain()
        try:
            other = self._meet(answer, scopes, refused=refused, subject=subject)
        except Denied as error:
            if error.code != "bad-credentials" or not self._look_again():
                raise
            return True
        return other is not None or self._look_again()

    def _send(self, request: Request, scopes: frozenset[str], subject: str) -> Answer:
        """Send a request, asking the registry twice at most for what it wants."""
        header = self.header(scopes, subject)
        for _ in range(2):
            answer = self.send_once(request, header)
            if not self._is_refused(answer):
                return answer
            answer.drain()  # its connection may be the one that the token comes over
            other = self._meet(answer, scopes, refused=header, subject=subject)
            if other is None:
                return answer
            header = other
        return self.send_once(request, header)

    def _meet(
        self, answer: Answer, scopes: frozenset[str], *, refused: str | None, subject: str
    ) -> str | None:
        challenge = choose_challenge(answer.headers.get_all("WWW-Authenticate") or ())
        if challenge is not None:
            self._look_up()
        return self._shared.authenticator.meet(
            self.identity(subject), challenge, scopes, refused=refused, work=self._work
        )

    def _is_refused(self, answer: Answer) -> bool:
        return answer.status == 401 and answer.url.origin == self.base.origin

    def _look_up(self) -> None:
        with self._lock:
            if not self._is_known:
                self._credentials = self._shared.keychain.find(self.image)
                self._is_known = True

    def _look_again(self) -> bool:
        """Whether the operator has other credentials now than those that were refused."""
        with self._lock:
            if self._is_given or not self._is_known:
                return False
            found = self._shared.keychain.find(self.image, refused=self._credentials)
            if found is None or found == self._credentials:
                return False
            self._credentials = found
            return True
