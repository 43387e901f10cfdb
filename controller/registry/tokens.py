"""Fetches tokens from a registry's token server, by the docker protocol or by OAuth 2.

Credentials go to a token server only if nobody on the way could have named it: over TLS the
registry's own word is taken, over plain http it must be the registry's own host.

Source: distribution docs/spec/auth/token.md and oauth.md; what holds an identity token is told
by the user name `<token>`, as docker's credential helpers write it.
"""

import base64
from dataclasses import dataclass
from urllib.parse import urlencode

from controller.registry.answers import Answer
from controller.registry.challenges import BearerChallenge, Token, parse_token
from controller.registry.errors import Refusal, error_from_refusal
from controller.registry.exchange import Request, Work
from controller.registry.redirects import follow
from controller.registry.transport import Transport
from controller.registry.urls import Url
from reconcile.errors import Denied, Invalid, NotFound
from reconcile.lrps import Credentials

MAX_TOKEN_ANSWER = 1024 * 1024
IDENTITY_TOKEN = "<token>"  # noqa: S105 - a user name
_CLIENT_ID = "diego-docker-cache"
_NO_OAUTH = frozenset({400, 404, 405})
_HEADERS = {"Accept": "application/json"}


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
            else (self.credentials.password.value, basic_header(self.credentials)[6:])
        )


def basic_header(credentials: Credentials) -> str:
    """Write the `Authorization` of Basic."""
    pair = f"{credentials.username}:{credentials.password.value}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def fetch_token(
    transport: Transport,
    identity: Identity,
    challenge: BearerChallenge,
    scopes: frozenset[str],
    *,
    work: Work,
) -> Token:
    """Ask the token server that a registry named.

    Raises:
        Denied: `realm-refused`, or `bad-credentials`.
        Invalid: `bad-token-answer`.
    """
    realm = identity.base.join(challenge.realm)
    attempted = f"{identity.subject} (token from {realm.origin})"
    _check_realm(identity, realm, attempted)
    # The one to push to goes first: some servers look at the first scope alone.
    ordered = sorted(scopes, key=lambda each: ("push" not in each, each))
    service = [("service", challenge.service)] if challenge.service else []
    credentials = identity.credentials
    if credentials is not None and credentials.username == IDENTITY_TOKEN:
        form = [*service, ("scope", " ".join(ordered)), ("client_id", _CLIENT_ID)]
        form += [("grant_type", "refresh_token"), ("refresh_token", credentials.password.value)]
        headers = {**_HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
        answer = transport.send(Request("POST", realm, headers, urlencode(form).encode()), work)
        if answer.status not in _NO_OAUTH:
            return _read(answer, identity, attempted)
        answer.drain()
    headers = dict(_HEADERS)
    parameters = [*service, *(("scope", scope) for scope in ordered), ("client_id", _CLIENT_ID)]
    if credentials is not None:
        headers["Authorization"] = basic_header(credentials)
        parameters.append(("account", credentials.username))
    request = Request("GET", realm.with_parameters(urlencode(parameters)), headers)
    return _read(follow(transport, request, work), identity, attempted)


def _check_realm(identity: Identity, realm: Url, attempted: str) -> None:
    home = identity.base.origin
    if home.scheme == "https" and realm.origin.scheme != "https":
        raise Denied("registry", "realm-refused", f"{attempted}: the registry's token server is not https")
    if identity.credentials is not None and home.scheme != "https" and realm.origin.host != home.host:
        raise Denied("registry", "realm-refused", f"{attempted}: another host was named over plain http")


def _read(answer: Answer, identity: Identity, attempted: str) -> Token:
    with answer:
        if answer.status != 200:
            refusal = Refusal(answer.status, answer.headers, answer.drain(), attempted, identity.secrets)
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
