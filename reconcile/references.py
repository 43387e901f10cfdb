"""Image references, digests and rootfs URIs as values, and the names of copies in the private registry.

An image reference has two grammars. `parse_image_reference` follows Docker's. `rootfs_from_image_text`
follows Cloud Controller's, which is looser, and writes the rootfs URI that Cloud Controller writes.
A reference that Cloud Controller accepts and Docker refuses cannot be cached; the error gives the reason.

Sources: distribution/reference (grammar and normalisation); cloud_controller_ng
lib/utils/uri_utils.rb and lib/cloud_controller/diego/docker/docker_uri_converter.rb
(rootfs URIs); guardian imageplugin and grootfs layer_fetcher (the image that a cell pulls for a rootfs URI).
"""

import re
from dataclasses import dataclass, replace
from typing import NewType, Self

from reconcile.errors import Invalid
from reconcile.foreign_text import cut, mask_login, split_login
from reconcile.hosts import DOCKER_HUB, HUB_ALIASES, canonical_host, is_host
from reconcile.reasons import Reason

CacheGuid = NewType("CacheGuid", str)
"""A random version-4 UUID, one per distinct image content."""

MAX_PATH = 255
MAX_DOMAIN = 300
"""Characters of a host with its port; a name in DNS has at most 253."""
_HEX_DIGITS = {"sha256": 64, "sha512": 128}

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}")
_BARE_IMAGE_ID = re.compile(r"[0-9a-f]{64}")

_CC_PATH = re.compile(r"[a-z0-9_\-./]{2,255}")
_CC_TAG = re.compile(r"(?:[a-zA-Z0-9_\-.]{1,128}(?:@sha256:[a-z0-9]{64})?|sha256:[a-z0-9]{64})")


def without_login(text: str) -> str:
    """Make an image text fit for messages: mask a login in it, and cut it after 256 characters."""
    return cut(mask_login(text))


def _quoted(text: str) -> str:
    return repr(without_login(text))


def _part(part: str, text: str) -> str:
    """Quote a part of a text; the whole text where it has a login, which may reach into any part."""
    return _quoted(text if split_login(text)[1] else part)


def _refusal(code: str, text: str, reason: str) -> Invalid:
    return Invalid("image", code, f"{_quoted(text)} {reason}")


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of some content: a hash algorithm, and the hash as lower-case hex digits."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse_digest(text: str) -> Digest:
    """Read a sha256 or sha512 digest; the result is safe in a URL path or a header.

    Raises:
        Invalid: `invalid-format`, `digest-unsupported`, `digest-length` or `digest-format`.
    """
    algorithm, colon, digits = text.partition(":")
    if not colon:
        raise _refusal("invalid-format", text, "is not a digest: write algorithm:hex")
    if algorithm not in _HEX_DIGITS:
        raise _refusal("digest-unsupported", text, "has a digest that is neither sha256 nor sha512")
    if len(digits) != _HEX_DIGITS[algorithm]:
        raise _refusal(
            "digest-length",
            text,
            f"has a digest of {len(digits)} digits: {algorithm} has {_HEX_DIGITS[algorithm]}",
        )
    if not re.fullmatch(r"[0-9a-f]+", digits):
        raise _refusal("digest-format", text, "has a digest that is not lower-case hex")
    return Digest(algorithm, digits)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A reference to an image in Docker's grammar.

    Attributes:
        domain: Host with an optional port, such as "docker.io" or "registry.example:5000".
        path: Repository within the registry, such as "library/ubuntu".
        tag: None when the reference names none.
        digest: None when the reference names none; otherwise the tag is ignored.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.domain}/{self.path}{tag}{digest}"

    @property
    def repository(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def tag_or_digest(self) -> str:
        """The tag or digest in the URL of the manifest: the digest, else the tag, else "latest"."""
        return str(self.digest) if self.digest is not None else (self.tag or "latest")

    def with_default_tag(self) -> Self:
        """Add "latest" when there is neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def canonical(self) -> Self:
        """Normalize the reference, so that references to the same image are equal.

        Hosts get their one form (see `canonical_host`), except a host without a dot and a port whose capitals
        alone distinguish it from a namespace of Docker Hub. One-part names of Docker Hub get "library/", a
        missing tag becomes "latest", and a tag beside a digest is dropped.
        """
        domain = self.domain
        if domain in HUB_ALIASES or is_host(domain.lower()):
            domain = canonical_host(domain)
        path = self.path
        if domain == DOCKER_HUB:
            path = path if "/" in path else f"library/{path}"
        tag = None if self.digest is not None else (self.tag or "latest")
        return replace(self, domain=domain, path=path, tag=tag)

    def at(self, digest: Digest) -> Self:
        """Refer to content of the same repository by its digest."""
        return replace(self, tag=None, digest=digest)


def _split_domain(text: str) -> tuple[str, str]:
    head, slash, rest = text.partition("/")
    domain, remainder = (head, rest) if slash and is_host(head) else (DOCKER_HUB, text)
    if domain == "index.docker.io":
        domain = DOCKER_HUB
    if domain == DOCKER_HUB and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder


def parse_image_reference(text: str) -> ImageReference:
    """Read a reference as Docker does: a missing host means Docker Hub, and a missing tag stays missing.

    Raises:
        Invalid: with code `name-uppercase`, `name-too-long`, `name-is-64-hex`, `digest-length`,
            `digest-unsupported`, `digest-format` or `invalid-format`.

    Source: distribution/reference normalize.go and regexp.go.
    """
    if _BARE_IMAGE_ID.fullmatch(text):
        raise _refusal("name-is-64-hex", text, "looks like an image id: name a repository")
    domain, remainder = _split_domain(text)
    name, at, digest_text = remainder.partition("@")
    path, colon, tag = name.partition(":")
    if "@" in domain:
        raise _refusal(
            "invalid-format", text, "has an '@' in its host: give a login beside the image, not in it"
        )
    if path != path.lower():
        raise _refusal(
            "name-uppercase",
            text,
            f"has capitals in its repository {_part(path, text)}: it must be lower-case",
        )
    if len(domain) > MAX_DOMAIN or not _DOMAIN.fullmatch(domain):
        raise _refusal("invalid-format", text, f"has an illegal host {_part(domain, text)}")
    if not _PATH.fullmatch(path):
        raise _refusal("invalid-format", text, f"has an illegal repository {_part(path, text)}")
    if colon and not _TAG.fullmatch(tag):
        raise _refusal(
            "invalid-format",
            text,
            f"has an illegal tag {_part(tag, text)}: letters, digits, '_', '.', '-', at most 128 of them",
        )
    if at and not _DIGEST.fullmatch(digest_text):
        raise _refusal("invalid-format", text, "has something after '@' that is no digest")
    if len(path) > MAX_PATH:
        raise _refusal(
            "name-too-long", text, f"has a repository of {len(path)} characters: at most {MAX_PATH}"
        )
    return ImageReference(
        domain=domain,
        path=path,
        tag=tag if colon else None,
        digest=parse_digest(digest_text) if at else None,
    )


@dataclass(frozen=True, slots=True, repr=False)
class Rootfs:
    """A rootfs URI of a desired LRP or a task."""

    uri: str

    def __repr__(self) -> str:
        return f"Rootfs({str(self)!r})"

    def __str__(self) -> str:
        """Write the URI with a login in it masked; a user may have written one, and cells ignore it."""
        return mask_login(self.uri)

    @property
    def login(self) -> str:
        """A login in the URI, with the "@" after it; empty where there is none."""
        return split_login(self.uri)[1]

    def without_login(self) -> "Rootfs":
        """Leave out a login in the URI: cells pull the same."""
        scheme, _, rest = split_login(self.uri)
        return Rootfs(f"{scheme}{rest}")

    @property
    def is_docker(self) -> bool:
        """Whether cells pull the rootfs from a registry."""
        return self.uri.startswith("docker:")


def rootfs_from_image_text(text: str) -> Rootfs:
    """Write the rootfs URI that Cloud Controller writes for a droplet's image text.

    Raises:
        Invalid: Cloud Controller would refuse the text. One droplet with such a text keeps Cloud Controller
            from marking the BBS domain as fresh.

    Source: cloud_controller_ng lib/utils/uri_utils.rb and docker_uri_converter.rb: the tag goes into
        the fragment; a bare digest leaves "@sha256" in the path; a missing tag stays missing.
    """
    if "://" in text:
        raise _refusal("invalid-format", text, "should not contain a scheme")
    head, slash, rest = text.partition("/")
    has_registry = slash and ("." in head or ":" in head or head == "localhost")
    host, path = (head, rest) if has_registry else ("", text)
    if (not has_registry or head == DOCKER_HUB) and "/" not in path:
        path = f"library/{path}"

    name, at, digest = path.partition("@")
    name, colon, tag = name.partition(":")
    if at:
        tag = f"{tag}@{digest}" if colon else digest
    elif "/" in tag:  # Cloud Controller ignores what follows the colon
        tag = "latest"
    if not _CC_PATH.fullmatch(name):
        raise _refusal(
            "invalid-format",
            text,
            f"has a repository {_part(name, text)} that Cloud Controller refuses",
        )
    if (at or colon) and not _CC_TAG.fullmatch(tag):
        raise _refusal(
            "invalid-format",
            text,
            f"has a tag or digest {_part(tag, text)} that Cloud Controller refuses",
        )
    if tag.startswith("sha256:"):
        name, tag = f"{name}@sha256", tag.removeprefix("sha256:")
    return Rootfs(f"docker://{host}/{name}" + (f"#{tag}" if tag else ""))


def image_from_rootfs(rootfs: Rootfs) -> ImageReference:
    """Read the image that a cell pulls for a rootfs.

    Raises:
        Invalid: `not-docker`, or what `parse_image_reference` raises for a text
            that Cloud Controller accepts and registries do not.

    Source: guardian imageplugin/default_command_creator.go (the first "#" becomes ":") and
        grootfs fetcher/layer_fetcher/source (user info and query are dropped).
    """
    scheme, separator, rest = rootfs.uri.partition("://")
    if scheme != "docker" or not separator:
        raise _refusal(Reason.NOT_DOCKER, rootfs.uri, "is not a docker:// rootfs")
    name, _, fragment = rest.partition("#")  # an empty fragment is none
    text = (f"{name}:{fragment}" if fragment else name).partition("#")[0].partition("?")[0]
    host, slash, path = text.partition("/")
    host = host.rpartition("@")[2]
    return parse_image_reference(f"{host}{slash}{path}".removeprefix("/"))


def source_from_rootfs(rootfs: Rootfs) -> ImageReference | None:
    """Read the normalized image of a rootfs; None when Docker's grammar allows no such image."""
    try:
        return image_from_rootfs(rootfs).canonical()
    except Invalid:
        return None


_ANY_GUID = CacheGuid("00000000-0000-4000-8000-000000000000")
_GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def guid_like_in(image: ImageReference) -> CacheGuid | None:
    """Find what looks like the GUID of a copy in a reference to any registry; None when nothing does."""
    found = re.search(rf"(?<![0-9a-f-]){_GUID}(?![0-9a-f-])", f"{image.path}:{image.tag or ''}")
    return None if found is None else CacheGuid(found[0])


@dataclass(frozen=True, slots=True)
class CacheRepositories:
    """The names of copies in the private registry.

    Attributes:
        address: Host and port of the private registry as cells see it.
        template: Repository and tag with "{guid}" in one of them: "{guid}:latest" by default,
            "docker-cache:{guid}" for registries that do not create repositories on push.
        former: Those of earlier private registries, from which LRPs may still run.

    Raises:
        Invalid: Cells would pull the copies from another registry, or all copies would have the same name.
    """

    address: str
    template: str = "{guid}:latest"
    former: tuple["CacheRepositories", ...] = ()

    def __post_init__(self) -> None:
        if "{guid}" not in self.template:
            raise Invalid("config", "bad-cache-template", f"{_quoted(self.template)} has no {{guid}} in it")
        guid = _ANY_GUID
        if self.image(guid).domain != self.address or canonical_host(self.address) == DOCKER_HUB:
            raise Invalid(
                "config",
                "bad-cache-address",
                f"{_quoted(self.address)} is not read as a private registry: add its domain or port",
            )
        self.rootfs(guid)

    @property
    def name_length(self) -> int:
        """Characters of address and repository of each copy."""
        return len(self.image(_ANY_GUID).repository)

    def image(self, guid: CacheGuid) -> ImageReference:
        """Name the copy with a GUID."""
        name = self.template.replace("{guid}", guid)
        return parse_image_reference(f"{self.address}/{name}").with_default_tag()

    def rootfs(self, guid: CacheGuid) -> Rootfs:
        """Write the cached URL of a copy, which is the rootfs of LRPs that run from it."""
        return rootfs_from_image_text(str(self.image(guid)))

    def guid_of(self, image: ImageReference) -> CacheGuid | None:
        """Read the GUID out of the name of a copy; None for any other image."""
        name, marked = image.canonical(), self.image(_ANY_GUID).canonical()
        if not self.is_at(name.domain) or name.digest is not None:
            return None
        pattern = re.escape(f"{marked.path}:{marked.tag}").replace(re.escape(_ANY_GUID), f"({_GUID})")
        found = re.fullmatch(pattern, f"{name.path}:{name.tag}")
        return None if found is None else CacheGuid(found[1])

    def covers(self, image: ImageReference) -> bool:
        """Whether a reference names the private registry; the registry itself is not asked."""
        return self.is_at(image.domain)

    def is_at(self, address: str) -> bool:
        """Whether an address is that of the private registry, in whatever spelling."""
        return canonical_host(address) == canonical_host(self.address)

    def former_of(self, image: ImageReference) -> "CacheRepositories | None":
        """Return the former private registry that a reference names; None for any other registry."""
        return next((each for each in self.former if each.covers(image)), None)

    def owns(self, image: ImageReference) -> bool:
        """Whether a reference names a private registry, the present one or a former one."""
        return self.covers(image) or self.former_of(image) is not None

    def of_registry(self, address: str) -> "CacheRepositories":
        """Return the repositories of the registry that a record names.

        An empty address, in a record of an older version, means the present one. A registry that is not in
        the config any more is taken to have the same template.
        """
        if not address or self.is_at(address):
            return self
        return next((each for each in self.former if each.is_at(address)), None) or replace(
            self, address=address, former=()
        )
