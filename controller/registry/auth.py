"""Meets a registry's challenges: Basic, or a Bearer token fetched from the registry's token server.

Tokens belong to one origin, realm, service, identity and set of scopes. Credentials go to a
token server only if nobody on the way could have named it: over TLS the registry's own word is
taken, over plain http it must be the registry's own host.
"""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from controller.registry.challenges import (
    BasicChallenge,
    BearerChallenge,
    Challenge,
    Token,
    merge_scopes,
    parse_token,
)
from controller.registry.errors import MAX_ERROR_BODY, Refusal, clean, error_from_refusal
from controller.registry.transport import Answer, Request, Transport, Work
from controller.registry.urls import Url
from reconcile.errors import Denied, Invalid, NotFound
from reconcile.lrps import Credentials

MAX_TOKEN_ANSWER = 1024 * 1024
MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MARGIN = 10.0
_CLIENT_ID = "diego-docker-cache"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks which registry.

    Attributes:
        base: The registry's API, whose origin alone may see what is sent as `Authorization`.
        subject: The image asked for, for messages.
    """

    base: Url
    credentials: Credentials | None
    subject: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no message may show."""
        return (
            ()
            if self.credentials is None
            else (self.credentials.password.value, _basic(self.credentials)[6:])
        )


@dataclass(frozen=True, slots=True)
class _TokenKey:
    base: Url
    realm: str
    service: str
    credentials: Credentials | None
    scopes: frozenset[str]


@dataclass(slots=True)
class _TokenSlot:
    """One token and the lock under which a single thread renews it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: str = ""
    renew_at: float = 0.0


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password.value}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


class Authenticator:
    """Gives the `Authorization` of requests; shared by all repositories, safe to use from many threads."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._challenges: dict[tuple[Url, Credentials | None], Challenge] = {}
        self._slots: dict[_TokenKey, _TokenSlot] = {}

    def header(self, identity: Identity, scopes: frozenset[str], work: Work) -> str | None:
        """Give what is known to be needed before the registry asks; None while nothing is known."""
        with self._lock:
            challenge = self._challenges.get((identity.base, identity.credentials))
        match challenge:
            case BearerChallenge():
                return self._bearer(identity, challenge, scopes, work=work)
            case BasicChallenge() if identity.credentials is not None:
                return _basic(identity.credentials)
            case _:
                return None

    def meet(
        self,
        identity: Identity,
        challenge: Challenge | None,
        scopes: frozenset[str],
        *,
        refused: str | None,
        work: Work,
    ) -> str | None:
        """Answer a 401 with another `Authorization`; None when there is nothing else to offer.

        Args:
            identity: Who asks.
            challenge: What the registry asks for.
            scopes: What the request needs; the challenge may add to it.
            refused: The `Authorization` that was not good enough.
            work: On whose behalf.
        """
        if challenge is None:
            return None
        if isinstance(challenge, BasicChallenge):
            header = None if identity.credentials is None else _basic(identity.credentials)
            header = None if header == refused else header
        else:
            wanted = merge_scopes(scopes, challenge.scopes)
            header = self._bearer(identity, challenge, wanted, refused=refused, work=work)
        with self._lock:  # only now: a challenge that cannot be met is not met in advance
            self._challenges[identity.base, identity.credentials] = challenge
        return header

    def _bearer(
        self,
        identity: Identity,
        challenge: BearerChallenge,
        scopes: frozenset[str],
        *,
        work: Work,
        refused: str | None = None,
    ) -> str:
        key = _TokenKey(identity.base, challenge.realm, challenge.service, identity.credentials, scopes)
        with self._lock:
            self._drop_old()
            slot = self._slots.setdefault(key, _TokenSlot())
        with slot.lock:
            if self._clock() >= slot.renew_at or refused == f"Bearer {slot.value}":
                token = self._fetch(identity, challenge, scopes, work)
                slot.value = token.value
                slot.renew_at = self._clock() + token.lifetime - max(_MARGIN, token.lifetime / 10)
            return f"Bearer {slot.value}"

    def _drop_old(self) -> None:
        if len(self._slots) > 1000:
            now = self._clock()
            self._slots = {key: slot for key, slot in self._slots.items() if slot.renew_at > now}

    def _fetch(
        self, identity: Identity, challenge: BearerChallenge, scopes: frozenset[str], work: Work
    ) -> Token:
        realm = identity.base.join(challenge.realm)
        attempted = f"{identity.subject} (token from {realm.origin})"
        if identity.base.origin.scheme == "https" and realm.origin.scheme != "https":
            raise Denied(
                "registry", "realm-refused", f"{attempted}: the registry's token server is not https"
            )
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        parameters = [("service", challenge.service)] if challenge.service else []
        # The one to push to goes first: some servers look at the first scope alone.
        parameters += [
            ("scope", scope) for scope in sorted(scopes, key=lambda each: ("push" not in each, each))
        ]
        parameters.append(("client_id", _CLIENT_ID))
        if identity.credentials is not None:
            if identity.base.origin.scheme != "https" and realm.origin.host != identity.base.origin.host:
                raise Denied(
                    "registry", "realm-refused", f"{attempted}: another host was named over plain http"
                )
            headers["Authorization"] = _basic(identity.credentials)
            parameters.append(("account", identity.credentials.username))
        request = Request("GET", realm.with_parameters(urlencode(parameters)), headers)
        with follow(self._transport, request, work) as answer:
            if answer.status != 200:
                body = answer.read(MAX_ERROR_BODY)
                refusal = Refusal(answer.status, answer.headers, body, attempted, identity.secrets)
                raise _token_error(refusal)
            body = answer.read(MAX_TOKEN_ANSWER + 1)
        if len(body) > MAX_TOKEN_ANSWER:
            raise Invalid("registry", "bad-token-answer", f"{attempted}: the answer is longer than 1 MiB")
        return parse_token(body, attempted)


def _token_error(refusal: Refusal) -> Exception:
    error = error_from_refusal(refusal)
    if refusal.status in {400, 401, 403}:
        return Denied("registry", "bad-credentials", error.detail)
    # A missing token server must not look like a missing image.
    return Invalid("registry", "bad-token-answer", error.detail) if isinstance(error, NotFound) else error


def follow(transport: Transport, request: Request, work: Work) -> Answer:
    """Send a GET or HEAD and follow its redirects; `Authorization` stays with its origin.

    Raises:
        Invalid: `redirect-refused` for a loop, a downgrade to http or no target.
    """
    home = request.url.origin
    for _ in range(MAX_REDIRECTS + 1):
        answer = transport.send(request, work)
        if answer.status not in REDIRECTS:
            return answer
        with answer:
            answer.read(MAX_ERROR_BODY)
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
        request = Request(request.method, url, headers)
    raise Invalid("registry", "redirect-refused", f"{clean(str(request.url))} redirects too often")
