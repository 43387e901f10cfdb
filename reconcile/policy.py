"""Decides which images may be cached, and which LRPs may be migrated while they run."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from reconcile.errors import Invalid
from reconcile.foreign_text import cut
from reconcile.hosts import DEFAULT_PORT
from reconcile.lrps import DesiredLrp
from reconcile.reasons import Reason
from reconcile.references import CacheRepositories, ImageReference, parse_image_reference
from reconcile.staging import OwnerChoice

_HAS_PORT = re.compile(r":[0-9]+\Z")


class CacheMode(StrEnum):
    """How far the owner of an app decides whether its image is cached."""

    ALL = "all"
    """Every image is cached, whatever its app's owner asks for."""
    OPT_IN = "opt_in"
    """An image is cached only if its app's owner asks for it."""
    OPT_OUT = "opt_out"
    """An image is cached unless its app's owner refuses it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which images may be cached.

    Patterns are globs over an image's canonical reference, once with its tag or digest and
    once without: `*` matches any text, slashes included, `?` for one character, `[ab]` for
    one of some. Capitals and small letters differ. Canonical means that Docker Hub is spelled
    `docker.io`, its own images have `library/`, hosts are in small letters, and the port 443 is left out
    (a pattern may name it):

    - `docker.io/library/*`: every official image of Docker Hub
    - `registry.example.com/team/app`: every tag and every digest of one repository
    - `*:latest`: whatever runs from that tag, in any registry
    - `*.amazonaws.com/*`: a whole family of hosts

    Attributes:
        allow: Only what one of these matches is cached; empty allows everything.
        deny: What one of these matches is never cached, even when it is allowed.

    Raises:
        Invalid: see `check_patterns`.
    """

    mode: CacheMode = CacheMode.ALL
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_patterns(self.allow)
        check_patterns(self.deny)


def check_patterns(patterns: Iterable[str]) -> None:
    """Refuse a pattern that can match nothing, since a typo would otherwise go unnoticed.

    Raises:
        Invalid: with code `bad-pattern`, for a pattern that is empty, has white space or an
            open bracket, or that no canonical reference can match from its beginning.
    """
    for pattern in patterns:
        problem = _problem_of(pattern)
        if problem:
            raise Invalid("config", "bad-pattern", f"{cut(pattern)!r} {problem}")


def refusal_of(
    policy: Policy, *, image: ImageReference, owner_choice: OwnerChoice, cache: CacheRepositories
) -> Reason | None:
    """Return the reason not to cache an image; None means that it may be cached."""
    if cache.owns(image):
        return Reason.ALREADY_CACHED
    if names_image(policy.deny, image):
        return Reason.DENIED
    if policy.allow and not names_image(policy.allow, image):
        return Reason.NOT_ALLOWED
    if policy.mode is CacheMode.OPT_OUT and owner_choice is OwnerChoice.OPT_OUT:
        return Reason.OPTED_OUT
    if policy.mode is CacheMode.OPT_IN and owner_choice is not OwnerChoice.OPT_IN:
        return Reason.OPTED_OUT if owner_choice is OwnerChoice.OPT_OUT else Reason.NOT_OPTED_IN
    return None


def names_image(patterns: Iterable[str], image: ImageReference) -> bool:
    """Whether one of some globs matches an image; see `Policy`."""
    canonical = image.canonical()
    texts = [str(canonical), canonical.repository]
    if not _HAS_PORT.search(canonical.domain):
        texts += [f"{canonical.domain}:{DEFAULT_PORT}{text[len(canonical.domain) :]}" for text in texts]
    return any(fnmatchcase(text, pattern) for pattern in patterns for text in texts)


def _problem_of(pattern: str) -> str:
    if not pattern:
        return "is empty"
    if any(character.isspace() for character in pattern):
        return "has white space in it"
    if _has_open_bracket(pattern):
        return "has a '[' without its ']'"
    host, slash, rest = pattern.partition("/")
    if _is_literal(host):
        if not slash or _canonical_host(host) not in {host, host.removesuffix(f":{DEFAULT_PORT}")}:
            return "matches nothing: begin with a host in small letters such as docker.io/, or with '*'"
        path = rest.partition(":")[0].partition("@")[0]
        if "[" not in path and path != path.lower():
            return "matches nothing: repositories are in small letters"
    return ""


def _is_literal(text: str) -> bool:
    return not any(character in text for character in "*?[")


def _canonical_host(host: str) -> str | None:
    try:
        return parse_image_reference(f"{host}/any/image").canonical().domain
    except Invalid:
        return None


def _has_open_bracket(pattern: str) -> bool:
    """Whether fnmatch would read a "[" as itself, since no "]" closes it."""
    start = pattern.find("[")
    while start >= 0:
        # The first character of a set belongs to it, even when it is "]".
        first = start + 2 if pattern[start + 1 : start + 2] == "!" else start + 1
        end = pattern.find("]", first + 1)
        if end < 0:
            return True
        start = pattern.find("[", end + 1)
    return False


class MigrateRunning(StrEnum):
    """Whether an LRP may be migrated while its instances run."""

    BRIDGE = "bridge"
    """Yes, with a bridge."""
    NEVER = "never"
    """No: the LRP is migrated once none of its instances runs."""


class UnseenStagings(StrEnum):
    """What a running LRP whose staging was not seen gets, since its tag may have moved."""

    CURRENT = "current"
    """What its tag means now, which its next evacuation would pull as well."""
    WAIT = "wait"
    """Nothing, until it is staged again or none of its instances runs."""


@dataclass(frozen=True, slots=True)
class RunningRule:
    """Decides for the LRPs that all of its globs match; capitals and small letters differ.

    Attributes:
        org: Name or GUID of the organization.
        space: Name or GUID of the space.
        app: Name or GUID of the app.
        image: As in `Policy`.
    """

    migrate_running: MigrateRunning
    org: str = "*"
    space: str = "*"
    app: str = "*"
    image: str = "*"

    def matches(self, lrp: DesiredLrp, image: ImageReference) -> bool:
        """Whether the rule is about this LRP and its image."""
        tags = lrp.metric_tags
        names = (
            (self.org, (tags.get("organization_name", ""), tags.get("organization_id", ""))),
            (self.space, (tags.get("space_name", ""), tags.get("space_id", ""))),
            (self.app, (tags.get("app_name", ""), tags.get("app_id", ""), lrp.app_guid)),
        )
        return names_image((self.image,), image) and all(
            any(fnmatchcase(text, pattern) for text in texts) for pattern, texts in names
        )


@dataclass(frozen=True, slots=True)
class RunningPolicy:
    """Which LRPs may be migrated while they run: the first rule that matches decides.

    Raises:
        Invalid: see `check_patterns`, for the rules' images.
    """

    default: MigrateRunning = MigrateRunning.BRIDGE
    rules: tuple[RunningRule, ...] = ()

    def __post_init__(self) -> None:
        check_patterns(rule.image for rule in self.rules)

    def of(self, lrp: DesiredLrp, image: ImageReference) -> MigrateRunning:
        """Decide for one LRP."""
        decided = (rule.migrate_running for rule in self.rules if rule.matches(lrp, image))
        return next(decided, self.default)
