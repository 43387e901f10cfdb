"""Answers the challenges of registries with Basic credentials or Bearer tokens, which are cached while valid.

A token is used for one origin, realm, service, identity and set of scopes. A challenge may ask for more
scopes than a request needs, but not for others each time.
"""

import threading
import time
from collections import OrderedDict

from controller.registry.auth.challenges import (
    BasicChallenge,
    BearerChallenge,
    Challenge,
    Token,
    merge_scopes,
)
from controller.registry.auth.token_cache import TokenCache, TokenKey
from controller.registry.auth.tokens import Identity, basic_header, fetch_token, registry_token_header
from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.request import RequestContext
from controller.registry.http.urls import Url
from reconcile.errors import Denied, ErrorCode
from reconcile.lrps import Credentials

_MARGIN = 10.0  # seconds before its expiry at which a token is no longer used
_MOST_REMEMBERED = 1000
_MOST_CHALLENGED = 4
"""Sets of scopes, for one set that requests need, that challenges may ask for."""

_Asked = tuple[Url, Credentials | None, frozenset[str]]
"""The registry, the identity and the scopes of requests."""


class Authenticator:
    """Provides the `Authorization` of requests; shared by all repositories, safe to use from many threads.

    Args:
        pool: Sends requests to token servers.
        login_wait: Seconds before a login that worked before, and was refused now, is attempted once more.
    """

    def __init__(self, pool: ConnectionPool, *, login_wait: float = 1.0) -> None:
        self._pool = pool
        self._login_wait = login_wait
        self._lock = threading.Lock()
        self._challenges: dict[tuple[Url, Credentials | None], Challenge] = {}
        self._challengers: set[Url] = set()
        self._tokens = TokenCache(time.monotonic)
        self._challenged: OrderedDict[_Asked, set[frozenset[str]]] = OrderedDict()
        self._proven: set[tuple[str, Credentials]] = set()

    def has_challenged(self, base: Url) -> bool:
        """Whether a registry has challenged any request."""
        with self._lock:
            return base in self._challengers

    def header(self, identity: Identity, scopes: frozenset[str], context: RequestContext) -> str | None:
        """Return the `Authorization` that an earlier challenge asked for; None before the first challenge."""
        with self._lock:
            challenge = self._challenges.get((identity.base, identity.credentials))
        match challenge:
            case BearerChallenge():
                token_header = registry_token_header(identity.credentials)
                return token_header or self._bearer(identity, challenge, scopes, context=context)
            case BasicChallenge():
                return _basic(identity)
            case None:
                return None

    def next_header(
        self,
        identity: Identity,
        challenge: Challenge | None,
        scopes: frozenset[str],
        *,
        refused: str | None,
        context: RequestContext,
    ) -> str | None:
        """Return another `Authorization` for a request refused with 401; None when there is no other.

        Args:
            identity: The identity of the refused request.
            challenge: The challenge in the registry's response.
            scopes: The scopes that the request needs; the challenge may add others.
            refused: The `Authorization` that was refused.
            context: The context of the request.
        """
        if challenge is None:
            return None
        token = registry_token_header(identity.credentials)
        if isinstance(challenge, BasicChallenge) or token is not None:
            header = _basic(identity) if isinstance(challenge, BasicChallenge) else token
            header = None if header == refused else header
        else:
            wanted = self._challenged_scopes(identity, scopes, challenge)
            header = self._bearer(identity, challenge, wanted, refused=refused, context=context)
        with self._lock:  # only now: a challenge that cannot be met is not remembered
            if len(self._challenges) > _MOST_REMEMBERED:
                self._challenges.clear()
                self._challengers.clear()
            self._challengers.add(identity.base)
            self._challenges[identity.base, identity.credentials] = challenge
        return header

    def _challenged_scopes(
        self, identity: Identity, scopes: frozenset[str], challenge: BearerChallenge
    ) -> frozenset[str]:
        """Return the scopes for a request with those that a challenge adds, unless they keep changing."""
        wanted = merge_scopes(scopes, challenge.scopes)
        asked = identity.base, identity.credentials, scopes
        with self._lock:
            known = self._challenged.setdefault(asked, set())
            self._challenged.move_to_end(asked)
            if len(self._challenged) > _MOST_REMEMBERED:
                self._challenged.popitem(last=False)
            if wanted not in known and len(known) >= _MOST_CHALLENGED:
                return scopes
            known.add(wanted)
        return wanted

    def _bearer(
        self,
        identity: Identity,
        challenge: BearerChallenge,
        scopes: frozenset[str],
        *,
        context: RequestContext,
        refused: str | None = None,
    ) -> str:
        key = TokenKey(identity.base, challenge.realm, challenge.service, identity.credentials, scopes)
        slot = self._tokens.slot(key)
        with slot.lock:
            if time.monotonic() >= slot.renew_at or refused == f"Bearer {slot.value}":
                token = self._log_in(identity, challenge, scopes, context)
                slot.value = token.value
                slot.renew_at = time.monotonic() + token.lifetime - max(_MARGIN, token.lifetime / 10)
                self._tokens.keep(key, slot)
            return f"Bearer {slot.value}"

    def _log_in(
        self, identity: Identity, challenge: BearerChallenge, scopes: frozenset[str], context: RequestContext
    ) -> Token:
        """Fetch a token; a login that worked before is attempted once more after a refusal.

        A login that has never worked is not, since repeating a wrong password locks accounts.
        """
        known = None if identity.credentials is None else (challenge.realm, identity.credentials)
        try:
            token = fetch_token(self._pool, identity, challenge, scopes, context=context)
        except Denied as error:
            with self._lock:
                is_proven = known in self._proven
            # Some token servers never grant a token for two repositories.
            if error.code != ErrorCode.BAD_CREDENTIALS or not is_proven or known is None or len(scopes) > 1:
                raise
            context.cancellation.wait(self._login_wait)
            try:
                token = fetch_token(self._pool, identity, challenge, scopes, context=context)
            except Denied:
                with self._lock:
                    self._proven.discard(known)
                raise
        if known is not None:
            with self._lock:
                if len(self._proven) > _MOST_REMEMBERED:
                    self._proven.clear()
                self._proven.add(known)
        return token


def _basic(identity: Identity) -> str | None:
    """Return the header with user name and password; None where the login has none."""
    credentials = identity.credentials
    if credentials is None or registry_token_header(credentials) is not None:
        return None
    return basic_header(credentials)
