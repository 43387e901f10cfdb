"""Fetches tokens from a registry's token server, by Docker's token protocol or by OAuth 2.

Credentials are sent to a token server only if no attacker between the daemon and the registry could
have chosen it: a registry on https may name any host, a registry on plain http only its own. An identity
token goes to the registry's own host alone, or to one that the operator has named for it.

Source: distribution docs/spec/auth/token.md and oauth.md; Docker's credential helpers mark an
identity token by the user name `<token>`.
"""

import base64
from dataclasses import dataclass
from urllib.parse import urlencode

from controller.registry.auth.auth_file import IDENTITY_TOKEN, REGISTRY_TOKEN
from controller.registry.auth.challenges import BearerChallenge, Token, parse_token
from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.home import Home
from controller.registry.http.redirects import follow
from controller.registry.http.refusals import Refusal, error_from_refusal
from controller.registry.http.request import Request, RequestContext
from controller.registry.http.response import Response
from controller.registry.http.urls import Url
from reconcile.errors import Denied, ErrorCode, Invalid, NotFound
from reconcile.lrps import Credentials

MAX_TOKEN_RESPONSE = 128 * 1024
"""Bytes; a token may have 16 KiB, and some servers send it twice, with a token to renew it."""

_CLIENT_ID = "diego-docker-cache"
_NO_OAUTH = frozenset({400, 404, 405})
_HEADERS = {"Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Identity:
    """The registry that requests are sent to, and the credentials that they are sent with.

    Attributes:
        base: URL of the registry's API, whose origin alone receives the `Authorization`.
        subject: The image, for messages.
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
    """Return the `Authorization` header of the Basic scheme."""
    pair = f"{credentials.username}:{credentials.password.value}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def registry_token_header(credentials: Credentials | None) -> str | None:
    """Return the `Authorization` header of a token that is sent as it is; None for other logins."""
    if credentials is None or credentials.username != REGISTRY_TOKEN:
        return None
    return f"Bearer {credentials.password.value}"


def fetch_token(
    pool: ConnectionPool,
    identity: Identity,
    challenge: BearerChallenge,
    scopes: frozenset[str],
    *,
    context: RequestContext,
) -> Token:
    """Fetch a token from the token server that a registry named.

    Raises:
        Denied: `realm-refused`, or `bad-credentials`.
        Invalid: `bad-token-response`.
    """
    realm = identity.base.join(challenge.realm)
    attempted = f"{identity.subject} (token from {realm.origin})"
    _check_realm(identity, realm, attempted)
    # The scope to push goes first: some servers grant the first scope alone.
    ordered = sorted(scopes, key=lambda each: ("push" not in each, each))
    service = [("service", challenge.service)] if challenge.service else []
    credentials = identity.credentials
    if credentials is not None and credentials.username == IDENTITY_TOKEN:
        _check_owner(realm, context.home, attempted)
        form = [*service, ("scope", " ".join(ordered)), ("client_id", _CLIENT_ID)]
        form += [("grant_type", "refresh_token"), ("refresh_token", credentials.password.value)]
        headers = {**_HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
        response = pool.send(Request("POST", realm, headers, urlencode(form).encode()), context)
        if response.status not in _NO_OAUTH:
            return _read(response, identity, attempted)
        response.drain()
    headers = dict(_HEADERS)
    parameters = [*service, *(("scope", scope) for scope in ordered), ("client_id", _CLIENT_ID)]
    if credentials is not None:
        headers["Authorization"] = basic_header(credentials)
        parameters.append(("account", credentials.username))
    request = Request("GET", realm.with_parameters(urlencode(parameters)), headers, may_leave=True)
    return _read(follow(pool, request, context), identity, attempted)


def _check_realm(identity: Identity, realm: Url, attempted: str) -> None:
    home = identity.base.origin
    if home.scheme == "https" and realm.origin.scheme != "https":
        raise Denied(
            "registry", ErrorCode.REALM_REFUSED, f"{attempted}: the registry's token server is not https"
        )
    if identity.credentials is not None and home.scheme != "https" and realm.origin.host != home.host:
        raise Denied(
            "registry", ErrorCode.REALM_REFUSED, f"{attempted}: another host was named over plain http"
        )


def _check_owner(realm: Url, home: Home, attempted: str) -> None:
    """Refuse to send an identity token, which is worth more than one image, to a host of somebody else."""
    if not home.includes(realm.origin):
        raise Denied(
            "registry",
            ErrorCode.REALM_REFUSED,
            f"{attempted}: an identity token is sent to the registry's own host alone, or to one that "
            f"other_hosts of {home.name} names",
        )


def _read(response: Response, identity: Identity, attempted: str) -> Token:
    with response:
        if response.status != 200:
            refusal = Refusal(
                response.status, response.headers, response.drain(), attempted, identity.secrets
            )
            raise _token_error(refusal)
        body, date = response.read(MAX_TOKEN_RESPONSE + 1), response.headers.get("Date")
    if len(body) > MAX_TOKEN_RESPONSE:
        raise Invalid("registry", "bad-token-response", f"{attempted}: the response is longer than 128 KiB")
    return parse_token(body, attempted, date=date)


def _token_error(refusal: Refusal) -> Exception:
    error = error_from_refusal(refusal)
    if refusal.status in {400, 401, 403}:
        return Denied("registry", ErrorCode.BAD_CREDENTIALS, error.detail)
    # A missing token server must not look like a missing image.
    return Invalid("registry", "bad-token-response", error.detail) if isinstance(error, NotFound) else error
