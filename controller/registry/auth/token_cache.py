"""Keeps tokens for as long as they are valid, bounded by their number and their size.

Registries choose the tokens, and by their challenges what they are for: without a bound, one that asks for
another scope each time could fill the memory.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.registry.http.urls import Url
from reconcile.lrps import Credentials

MOST_TOKENS = 1000
MOST_BYTES = 4 << 20
"""Limit for all tokens and their keys together."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token is used for: one origin, realm, service, identity and set of scopes."""

    base: Url
    realm: str
    service: str
    credentials: Credentials | None
    scopes: frozenset[str]

    @property
    def size(self) -> int:
        """Characters of its texts, without those of the login, which is kept anyway."""
        return len(self.realm) + len(self.service) + sum(map(len, self.scopes))


@dataclass(slots=True)
class TokenSlot:
    """One token and the lock under which a single thread renews it.

    Attributes:
        value: Empty until a token is received.
        renew_at: When another one is to be fetched, by the cache's monotonic clock in seconds.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: str = field(default="", repr=False)
    renew_at: float = 0.0


class TokenCache:
    """The tokens of all identities; the ones used least recently go first. Safe to use from many threads.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: OrderedDict[TokenKey, TokenSlot] = OrderedDict()
        self._sizes: dict[TokenKey, int] = {}
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes of all tokens and their keys."""
        return self._size

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, key: TokenKey) -> TokenSlot:
        """Return the slot of a token, which may be empty; call `keep` after filling it."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = TokenSlot()
            self._note(key)
            return slot

    def keep(self, key: TokenKey, slot: TokenSlot) -> None:
        """Note that a slot was filled, and drop tokens until the rest is within the limits."""
        with self._lock:
            self._slots[key] = slot  # which may have been dropped meanwhile
            self._note(key)

    def _note(self, key: TokenKey) -> None:
        slot = self._slots[key]
        self._slots.move_to_end(key)
        size = key.size + len(slot.value)
        self._size += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        if len(self._slots) > MOST_TOKENS or self._size > MOST_BYTES:
            now = self._clock()
            for each in [each for each, kept in self._slots.items() if kept.value and kept.renew_at <= now]:
                self._drop(each)
        while len(self._slots) > MOST_TOKENS or (self._size > MOST_BYTES and len(self._slots) > 1):
            self._drop(next(iter(self._slots)))

    def _drop(self, key: TokenKey) -> None:
        del self._slots[key]
        self._size -= self._sizes.pop(key)
