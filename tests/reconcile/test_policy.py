# ruff: noqa: N802 - names carry the numbers of known bugs
"""Which images may be cached: modes against signals, and patterns against references."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.errors import Invalid
from reconcile.policy import CacheMode, Policy, check_patterns, refusal_of
from reconcile.reasons import Reason
from reconcile.references import CacheRepositories, parse_image_reference
from reconcile.staging import OwnerChoice

CACHE = CacheRepositories("cache.example:8080")
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def verdict(policy: Policy, text: str, owner_choice: OwnerChoice = OwnerChoice.NONE) -> str | None:
    return refusal_of(policy, image=parse_image_reference(text), owner_choice=owner_choice, cache=CACHE)


@pytest.mark.parametrize(
    ("mode", "owner_choice", "reason"),
    [
        (CacheMode.ALL, OwnerChoice.OPT_IN, None),
        (CacheMode.ALL, OwnerChoice.NONE, None),
        (CacheMode.ALL, OwnerChoice.OPT_OUT, None),
        (CacheMode.OPT_IN, OwnerChoice.OPT_IN, None),
        (CacheMode.OPT_IN, OwnerChoice.NONE, Reason.NOT_OPTED_IN),
        (CacheMode.OPT_IN, OwnerChoice.OPT_OUT, Reason.OPTED_OUT),
        (CacheMode.OPT_OUT, OwnerChoice.OPT_IN, None),
        (CacheMode.OPT_OUT, OwnerChoice.NONE, None),
        (CacheMode.OPT_OUT, OwnerChoice.OPT_OUT, Reason.OPTED_OUT),
    ],
)
def test_the_mode_says_what_an_owners_signal_means(
    mode: CacheMode, owner_choice: OwnerChoice, reason: str | None
) -> None:
    assert verdict(Policy(mode), "busybox", owner_choice) == reason


@pytest.mark.parametrize("mode", CacheMode)
@pytest.mark.parametrize("text", ["cache.example:8080/guid:latest", "CACHE.Example:8080/guid"])
def test_what_lies_in_the_private_registry_is_not_cached_again(mode: CacheMode, text: str) -> None:
    assert verdict(Policy(mode, deny=("*",)), text, OwnerChoice.OPT_IN) == Reason.ALREADY_CACHED


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "busybox", True),
        ("docker.io/library/*", "busybox:1", True),
        ("docker.io/library/*", "index.docker.io/busybox", True),
        ("docker.io/library/*", "team/app", False),
        ("docker.io/*", "team/deep/app", True),
        ("registry.example.com/team/app", "registry.example.com/team/app:7", True),
        ("registry.example.com/team/app", "Registry.Example.com/team/app", True),
        ("registry.example.com/team/app", "registry.example.com/team/app2", False),
        ("registry.example.com/team/app:7", "registry.example.com/team/app:7", True),
        ("registry.example.com/team/app:7", "registry.example.com/team/app:8", False),
        ("*:latest", "team/app", True),
        ("*:latest", "team/app:1", False),
        ("*:RC1", "team/app:RC1", True),
        ("*:RC1", "team/app:rc1", False),
        ("docker.io/team/app:[12]", "team/app:2", True),
        ("docker.io/team/app:[!12]", "team/app:2", False),
        ("docker.io/team/app:?", "team/app:12", False),
        (f"*@sha256:{HEX}", f"team/app@sha256:{HEX}", True),
        ("*@sha256:*", "team/app:1", False),
        ("*.amazonaws.com/*", "1.dkr.ecr.eu-west-1.amazonaws.com/app", True),
        ("localhost/*", "localhost/app", True),
        ("registry:5000/*", "registry:5000/app", True),
        ("[[]2001:db8::1]:5000/*", "[2001:db8::1]:5000/app", True),
    ],
)
def test_patterns_are_matched_against_the_canonical_reference(pattern: str, text: str, matches: bool) -> None:  # noqa: FBT001 - a table
    assert verdict(Policy(deny=(pattern,)), text) == (Reason.DENIED if matches else None)
    assert verdict(Policy(allow=(pattern,)), text) == (None if matches else Reason.NOT_ALLOWED)


def test_deny_wins_over_allow_and_one_match_is_enough() -> None:
    policy = Policy(allow=("docker.io/*", "ghcr.io/*"), deny=("*:latest", "docker.io/library/*"))

    assert verdict(policy, "team/app:1") is None
    assert verdict(policy, "ghcr.io/team/app:1") is None
    assert verdict(policy, "ghcr.io/team/app") == Reason.DENIED
    assert verdict(policy, "busybox:1") == Reason.DENIED
    assert verdict(policy, "quay.io/team/app:1") == Reason.NOT_ALLOWED


def test_the_operators_patterns_outweigh_the_owners_signal() -> None:
    assert verdict(Policy(CacheMode.OPT_IN, deny=("*",)), "busybox", OwnerChoice.OPT_IN) == Reason.DENIED


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        " ",
        "docker.io/library/busybox ",
        "docker.io/a b",
        "*\n",
        "docker.io/[ab",
        "docker.io/[",
        "docker.io/[]",
        "docker.io/[!]",
        "docker.io/[ab]/[c",
        "busybox",
        "library/*",
        "docker.io",
        "index.docker.io/*",
        "registry-1.docker.io/*",
        "Registry.Example.com/*",
        "ghcr.io/Owner/*",
        "https://registry.example.com/*",
        "my_registry.com/*",
    ],
)
def test_P10_a_pattern_that_cannot_mean_what_was_written_is_refused(pattern: str) -> None:
    """A typo that matches nothing would let through what it was to stop."""
    for lists in ({"allow": (pattern,)}, {"deny": ("*", pattern)}):
        with pytest.raises(Invalid) as error:
            replace(Policy(), **lists)

        assert (error.value.system, error.value.code) == ("config", "bad-pattern")
        assert repr(pattern) in error.value.detail


@pytest.mark.parametrize(
    "pattern", ["*", "*[]]", "*[!]]", "*]", "[a-z]*/x", "docker.io/a:RC1", "docker.io/[A]*"]
)
def test_a_pattern_with_closed_brackets_is_accepted(pattern: str) -> None:
    check_patterns((pattern,))


@given(st.text(alphabet="a[]!*?/.:@ \nZ", max_size=12), st.sampled_from(["busybox", "a.b/a/a:a", "a:1/a"]))
def test_any_pattern_is_refused_or_decides(pattern: str, text: str) -> None:
    try:
        policy = Policy(deny=(pattern,))
    except Invalid:
        return
    assert verdict(policy, text) in {None, Reason.DENIED}
