"""How many tokens are kept, and which of them go first."""

import pytest

from controller.registry.auth.token_cache import MOST_BYTES, MOST_TOKENS, TokenCache, TokenKey
from controller.registry.http.urls import parse_url
from reconcile.lrps import Credentials, Secret

BASE = parse_url("https://r.example/v2/")


class Clock:
    """Time that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> TokenCache:
    return TokenCache(clock)


def key(scope: str = "repository:a:pull", credentials: Credentials | None = None) -> TokenKey:
    return TokenKey(BASE, "https://r.example/token", "service", credentials, frozenset({scope}))


def keep(cache: TokenCache, of: TokenKey, value: str = "token", *, until: float = 100.0) -> None:
    slot = cache.slot(of)
    slot.value, slot.renew_at = value, until
    cache.keep(of, slot)


def test_a_token_is_kept_under_what_it_is_for(cache: TokenCache) -> None:
    alice = Credentials("alice", Secret("a"))
    keep(cache, key(), "anonymous")
    keep(cache, key(credentials=alice), "for alice")

    assert cache.slot(key()).value == "anonymous"
    assert cache.slot(key(credentials=alice)).value == "for alice"
    assert cache.slot(key("repository:b:pull")).value == ""


def test_tokens_are_bounded_in_number_and_the_one_used_least_recently_goes_first(cache: TokenCache) -> None:
    keep(cache, key("first"), "first")
    keep(cache, key("second"), "second")
    for n in range(MOST_TOKENS - 2):
        keep(cache, key(f"repository:{n}:pull"))
    assert cache.slot(key("first")).value == "first"

    keep(cache, key("another"))

    assert len(cache) == MOST_TOKENS
    assert cache.slot(key("first")).value == "first"
    assert cache.slot(key("second")).value == ""


@pytest.mark.parametrize("size", [16384, 100_000, MOST_BYTES + 1])
def test_tokens_are_bounded_in_bytes(cache: TokenCache, size: int) -> None:
    for n in range(600):
        keep(cache, key(f"repository:{n}:pull"), "t" * size)

    assert cache.slot(key("repository:599:pull")).value  # the newest one stays, whatever its size
    assert cache.size <= max(MOST_BYTES, size + 1000)


def test_what_tokens_are_for_counts_as_well(cache: TokenCache) -> None:
    for n in range(600):
        keep(cache, key(f"repository:{n}:pull" + "x" * 20_000), "t")

    assert cache.size <= MOST_BYTES


def test_a_token_that_is_replaced_counts_once(cache: TokenCache) -> None:
    keep(cache, key(), "t" * 5000)
    before = cache.size

    for _ in range(100):
        keep(cache, key(), "t" * 5000)
    keep(cache, key(), "t" * 1000)

    assert cache.size == before - 4000


def test_expired_tokens_go_before_valid_ones(cache: TokenCache, clock: Clock) -> None:
    keep(cache, key("valid"), "valid", until=100.0)
    for n in range(MOST_TOKENS - 1):
        keep(cache, key(f"repository:{n}:pull"), until=10.0)
    clock.now = 50.0

    keep(cache, key("another"))

    assert len(cache) == 2
    assert cache.slot(key("valid")).value == "valid"


def test_a_slot_that_was_dropped_while_its_token_was_fetched_is_kept_again(cache: TokenCache) -> None:
    slot = cache.slot(key("slow"))
    for n in range(MOST_TOKENS):
        keep(cache, key(f"repository:{n}:pull"))

    slot.value, slot.renew_at = "slow", 100.0
    cache.keep(key("slow"), slot)

    assert cache.slot(key("slow")).value == "slow"
    assert len(cache) == MOST_TOKENS
