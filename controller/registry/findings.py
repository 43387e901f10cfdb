"""What registries say about manifests and blobs, as values, and whether an answer fits a blob."""

from dataclasses import dataclass

from controller.registry.answers import Answer
from controller.registry.errors import Headers
from controller.registry.manifests import Descriptor
from controller.registry.ranges import parse_content_range
from controller.registry.session import Session
from controller.registry.urls import Url
from reconcile.errors import Invalid, Unavailable
from reconcile.images import Digest, parse_digest


@dataclass(eq=False)
class BlobsMissing(Invalid):
    """The registry refuses a manifest because blobs that it refers to are not there."""

    digests: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What a registry says about a manifest without sending it.

    Attributes:
        digest: None when it does not say, or does not answer such questions.
        media_type: Empty when it is no type of manifest.
    """

    digest: Digest | None
    media_type: str


@dataclass(frozen=True, slots=True)
class BlobHead:
    """A blob is there; its size is None when the registry does not tell."""

    size: int | None


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """An upload session that can be gone on with, and how many bytes it holds."""

    session: Url
    offset: int


def check_part(answer: Answer, blob: Descriptor, offset: int, subject: str) -> None:
    """Refuse an answer that is not the rest of a blob from an offset on.

    Raises:
        Unavailable: `cut`.
    """
    part = parse_content_range(answer.headers.get_all("Content-Range") or [])
    fits = part is not None and part.first == offset and part.total in {blob.size, None}
    if answer.status != 206 or not fits:
        raise Unavailable("registry", "cut", f"{subject}: cannot be read on from byte {offset}")


def check_length(session: Session, answer: Answer, blob: Descriptor, subject: str) -> None:
    """Refuse an answer that is not a whole blob.

    Raises:
        Invalid: `size-mismatch`.
    """
    if answer.status != 200:
        raise session.error(answer, f"{subject} (read blob)")
    if answer.length not in {blob.size, None}:
        coding = answer.headers.get("Content-Encoding") or "none"
        raise Invalid(
            "registry",
            "size-mismatch",
            f"{subject}: {answer.length} bytes instead of {blob.size} (content coding {coding[:20]!r})",
        )


def digest_header(headers: Headers) -> Digest | None:
    """Read the digest that a registry names; None when it names none that can be used."""
    try:
        return parse_digest(headers.get("Docker-Content-Digest") or "")
    except Invalid:
        return None
