"""Decides who may share content: which sources trust each other, and what each of them must show by itself.

To know a digest is no proof of possession, and what a registry says about a digest is worth nothing where a
tenant runs that registry. So content is shared within a trust domain only. Within one, a source shows that it
holds an image by answering to the app's own login; across two, it shows every byte.
"""

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from reconcile.lrps import Credentials
from reconcile.references import CacheGuid, Digest, ImageReference

TrustDomain = NewType("TrustDomain", str)
"""A group of sources that believe each other, as it is kept in records."""

EVERYBODY = TrustDomain("all")
NO_LOGIN = ""
"""The login of whoever has none; what was read that way is public in its domain."""
UNKNOWN_LOGIN = "?"
"""A login that nobody can have any more, or that was not noted."""


class ShareContent(StrEnum):
    """Which sources trust each other, so that one copy serves them."""

    REGISTRY = "registry"
    """Sources in the same registry."""
    ORGANIZATION = "organization"
    """Sources of apps of the same organization, whatever their registries."""
    ALL = "all"
    """All sources, where one tenant alone uses the platform."""


class ContentStanding(StrEnum):
    """What is known of some content in the trust domain of somebody who asks for it."""

    PROVEN = "proven"
    """It was read there with the same login, or without any: nothing must be shown."""
    SHARED = "shared"
    """It was read there with another login: an answer of the source to this one is proof."""
    FOREIGN = "foreign"
    """Nobody has read it there: the source must show every byte."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads at a source: the trust domain of the source, and the login.

    Attributes:
        domain: The trust domain.
        logins: Keyed hashes of the login, of which the first is kept in records; `NO_LOGIN` for none.
        host: The registry, where the domain consists of one; empty otherwise.
    """

    domain: TrustDomain
    logins: tuple[str, ...] = (NO_LOGIN,)
    host: str = ""

    @property
    def login(self) -> str:
        """The hash of the login that is kept in records."""
        return self.logins[0]

    @property
    def accepted_logins(self) -> frozenset[str]:
        """The logins whose reading counts as this reader's own."""
        return frozenset({NO_LOGIN, *self.logins})

    @property
    def trusts_everybody(self) -> bool:
        """Whether there is one trust domain only."""
        return self.domain == EVERYBODY

    @property
    def scope(self) -> str:
        """Names the readers who may wait for each other's transfers; see `may_join`."""
        return f"{self.domain}\n{self.login}"

    def counts_as_own(self, domain: str, login: str) -> bool:
        """Whether what was read in a domain with a login counts as read by this reader."""
        return self.trusts_everybody or (domain == self.domain and login in self.accepted_logins)


@dataclass(frozen=True, slots=True)
class ContentProof:
    """That a source has shown an image.

    Attributes:
        platform_digest: Identifies the image's content.
        source: Repository that has shown it, without tag and digest; empty while its job has not ended.
        at: UTC seconds since 1970.
    """

    platform_digest: Digest
    reader: Reader
    source: str
    at: float


@dataclass(frozen=True, slots=True)
class ShownContent:
    """What was shown of an image before.

    Attributes:
        sources: Repositories that have shown it, without tags and digests.
    """

    standing: ContentStanding
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BlobHolder:
    """A cached image whose repository holds a blob.

    Attributes:
        is_proven: Whether nothing must be shown of the blob; otherwise the source must answer for it.
    """

    cache_guid: CacheGuid
    is_proven: bool = True


def standing_of(reader: Reader, logins: Collection[str], *, is_of_host: bool = False) -> ContentStanding:
    """Decide what somebody must show of some content.

    Args:
        reader: Who asks for it.
        logins: The logins with which it was read in the reader's domain.
        is_of_host: Whether it was copied from the reader's registry, whoever read it.
    """
    if not reader.accepted_logins.isdisjoint(logins):
        return ContentStanding.PROVEN
    is_shared = bool(logins) or reader.trusts_everybody or (is_of_host and bool(reader.host))
    return ContentStanding.SHARED if is_shared else ContentStanding.FOREIGN


def may_join(reader: Reader, other: Reader) -> bool:
    """Whether one reader may wait for another's transfer of the same content, and use what came of it."""
    return reader.scope == other.scope


@dataclass(frozen=True, slots=True)
class Sharing:
    """How content is shared.

    Attributes:
        share_content: Which sources trust each other.
        keys: Secrets with which logins are hashed; the first one's hashes are kept in records.
    """

    share_content: ShareContent
    keys: tuple[bytes, ...] = field(repr=False)

    def reader(self, source: ImageReference, organization: str, credentials: Credentials | None) -> Reader:
        """Name who reads a source.

        Args:
            source: Canonical reference.
            organization: See `CacheRequest.organization`.
            credentials: The app's own; None when it has none.
        """
        logins = (NO_LOGIN,) if credentials is None else self._hashes(source.domain, credentials)
        match self.share_content:
            case ShareContent.REGISTRY:
                return Reader(TrustDomain(f"registry {source.domain}"), logins, source.domain)
            case ShareContent.ORGANIZATION:
                return Reader(TrustDomain(f"organization {organization}"), logins)
            case ShareContent.ALL:
                return Reader(EVERYBODY, logins)

    def _hashes(self, host: str, credentials: Credentials) -> tuple[str, ...]:
        """Hash a login with each key; the host is hashed too, so that equal logins elsewhere do not show."""
        parts = (host, credentials.username, credentials.password.value)
        text = b"".join(
            len(part).to_bytes(8, "big") + part
            for part in (each.encode(errors="surrogatepass") for each in parts)
        )
        return tuple(hmac.digest(key, text, "sha256").hex() for key in self.keys)
