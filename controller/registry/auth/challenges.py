"""Parses the challenges of registries and the responses of token servers.

Both come from untrusted servers: a header is read in one walk over a bounded number of its characters, and
what is kept of it, and of a response, is bounded as well.

Source: RFC 9110 section 11 (challenges); distribution docs/spec/auth/token.md (tokens, scopes).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.registry.auth.token_lifetimes import lifetime_of
from reconcile.errors import Invalid
from reconcile.foreign_text import clean

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar's name, not a password
_MOST_HEADER = 8192  # characters of all challenges of a response
_ITEM = re.compile(
    rf'({_TOKEN})(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)(")?|([^\s,"]*)))?|.', re.ASCII | re.DOTALL
)
"""A parameter or a scheme, or anything else; each alternative succeeds where it begins."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BEARER = re.compile(r"[\x21-\x7e]+")
_LONGEST_TOKEN = 16384
_LONGEST_REALM = 2048
_LONGEST_SERVICE = 512
_LONGEST_SCOPE = 512  # a repository has 255 characters
_MOST_SCOPES = 8


@dataclass(frozen=True, slots=True)
class BasicChallenge:
    """The registry asks for user name and password with each request."""


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """The registry asks for a token from a token server.

    Attributes:
        realm: URL of the token server; may be relative.
        service: Empty when there is none.
        scopes: One entry per scope, such as "repository:a/b:pull".
    """

    realm: str
    service: str
    scopes: frozenset[str]


Challenge = BasicChallenge | BearerChallenge


def _split(values: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    challenges: list[tuple[str, dict[str, str]]] = []
    left = _MOST_HEADER
    for value in values:
        for match in _ITEM.finditer(value[:left]):
            name, quoted, end, bare = match.groups()
            if name is None:
                continue
            if quoted is None and bare is None:
                challenges.append((name.lower(), {}))
            elif challenges and (quoted is None or end is not None):
                text = bare if quoted is None else _ESCAPED.sub(r"\1", quoted)
                challenges[-1][1].setdefault(name.lower(), text)
        left -= min(left, len(value))
    return challenges


def choose_challenge(values: Iterable[str]) -> Challenge | None:
    """Choose the strongest challenge that we can meet from all `WWW-Authenticate` headers.

    None means that there is none: the scheme is another, or a Bearer challenge has no realm that can be
    used. Of the scopes that a registry asks for so many are taken as one request may need.
    """
    basic: BasicChallenge | None = None
    for scheme, parameters in _split(values):
        realm, service = parameters.get("realm", ""), parameters.get("service", "")
        is_short = len(realm) <= _LONGEST_REALM and len(service) <= _LONGEST_SERVICE
        if scheme == "bearer" and realm and realm.isprintable() and is_short:
            scopes = [each for each in parameters.get("scope", "").split() if len(each) <= _LONGEST_SCOPE]
            return BearerChallenge(realm, service, frozenset(scopes[:_MOST_SCOPES]))
        if scheme == "basic":
            basic = BasicChallenge()
    return basic


def pull_scope(repository: str) -> str:
    """Return the scope for reading a repository."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """Return the scope for writing to a repository."""
    return f"repository:{repository}:pull,push"


def delete_scope(repository: str) -> str:
    """Return the scope for deleting from a repository."""
    return f"repository:{repository}:delete"


def catalog_scope() -> str:
    """Return the scope for listing the repositories of a registry."""
    return "registry:catalog:*"


def merge_scopes(*groups: Iterable[str]) -> frozenset[str]:
    """Merge scopes into one for each resource, with its actions sorted."""
    actions: dict[str, set[str]] = {}
    for scope in (scope for group in groups for scope in group):
        resource, _, wanted = scope.rpartition(":")
        actions.setdefault(resource, set()).update(wanted.split(","))
    return frozenset(f"{resource}:{','.join(sorted(wanted))}" for resource, wanted in actions.items())


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and for how many seconds it is valid after it was received."""

    value: str = field(repr=False)
    lifetime: float


def parse_token(body: bytes, attempted: str, *, date: str | None = None) -> Token:
    """Parse a token server's response.

    Args:
        body: Of the response.
        attempted: The image, and what was attempted on it.
        date: The response's `Date` header.

    Raises:
        Invalid: `bad-token-response`; also for a token that no header has room for.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        shown = clean(body[:100].decode("utf-8", "replace"))
        raise Invalid("registry", "bad-token-response", f"{attempted}: status 200 with {shown!r}") from error
    values = [document.get("token"), document.get("access_token")] if isinstance(document, dict) else []
    for value in values:
        if isinstance(value, str) and len(value) > _LONGEST_TOKEN:
            detail = f"{attempted}: the token is longer than {_LONGEST_TOKEN} characters"
            raise Invalid("registry", "bad-token-response", detail)
        if isinstance(value, str) and _BEARER.fullmatch(value):
            return Token(value, lifetime_of(document, date))
    raise Invalid("registry", "bad-token-response", f"{attempted}: the response holds no token")
