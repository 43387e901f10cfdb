"""Meets a registry's challenges: Basic, or a Bearer token from its token server, kept while it lives.

Tokens belong to one origin, realm, service, identity and set of scopes.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.registry.challenges import BasicChallenge, BearerChallenge, Challenge, Token, merge_scopes
from controller.registry.exchange import Work
from controller.registry.tokens import Identity, basic_header, fetch_token
from controller.registry.transport import Transport
from controller.registry.urls import Url
from reconcile.errors import Denied
from reconcile.lrps import Credentials

_MARGIN = 10.0  # seconds before its end at which a token is no longer used
_MOST_REMEMBERED = 1000


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
    value: str = field(default="", repr=False)
    renew_at: float = 0.0


class Authenticator:
    """Gives the `Authorization` of requests; shared by all repositories, safe to use from many threads.

    Args:
        transport: Reaches token servers.
        clock: Seconds that only grow.
        login_wait: Seconds before a login that worked before is tried once more after its refusal.
    """

    def __init__(
        self, transport: Transport, clock: Callable[[], float] = time.monotonic, *, login_wait: float = 1.0
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._login_wait = login_wait
        self._lock = threading.Lock()
        self._challenges: dict[tuple[Url, Credentials | None], Challenge] = {}
        self._challengers: set[Url] = set()
        self._slots: dict[_TokenKey, _TokenSlot] = {}
        self._proven: set[tuple[str, Credentials]] = set()

    def has_challenged(self, base: Url) -> bool:
        """Whether a registry has asked anybody to log in."""
        with self._lock:
            return base in self._challengers

    def header(self, identity: Identity, scopes: frozenset[str], work: Work) -> str | None:
        """Give what is known to be needed before the registry asks; None while nothing is known."""
        with self._lock:
            challenge = self._challenges.get((identity.base, identity.credentials))
        match challenge:
            case BearerChallenge():
                return self._bearer(identity, challenge, scopes, work=work)
            case BasicChallenge() if identity.credentials is not None:
                return basic_header(identity.credentials)
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
            header = None if identity.credentials is None else basic_header(identity.credentials)
            header = None if header == refused else header
        else:
            wanted = merge_scopes(scopes, challenge.scopes)
            header = self._bearer(identity, challenge, wanted, refused=refused, work=work)
        with self._lock:  # only now: a challenge that cannot be met is not met in advance
            if len(self._challenges) > _MOST_REMEMBERED:
                self._challenges.clear()
                self._challengers.clear()
            self._challengers.add(identity.base)
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
                token = self._log_in(identity, challenge, scopes, work)
                slot.value = token.value
                slot.renew_at = self._clock() + token.lifetime - max(_MARGIN, token.lifetime / 10)
            return f"Bearer {slot.value}"

    def _drop_old(self) -> None:
        if len(self._slots) > _MOST_REMEMBERED:
            now = self._clock()
            self._slots = {key: slot for key, slot in self._slots.items() if slot.renew_at > now}

    def _log_in(
        self, identity: Identity, challenge: BearerChallenge, scopes: frozenset[str], work: Work
    ) -> Token:
        """Fetch a token; credentials that worked before are believed in against one refusal.

        A first refusal is final, since repeating a wrong password locks accounts.
        """
        known = None if identity.credentials is None else (challenge.realm, identity.credentials)
        try:
            token = fetch_token(self._transport, identity, challenge, scopes, work=work)
        except Denied as error:
            with self._lock:
                is_proven = known in self._proven
            # A token for two repositories may be refused for good, whoever asks.
            if error.code != "bad-credentials" or not is_proven or known is None or len(scopes) > 1:
                raise
            work.cancellation.wait(self._login_wait)
            try:
                token = fetch_token(self._transport, identity, challenge, scopes, work=work)
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
