"""Defines the results of requests for manifests and blobs, and checks whether a response fits a blob."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from controller.registry.http.refusals import ReadableHeaders
from controller.registry.http.response import Response
from controller.registry.http.urls import Url
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.ranges import parse_content_range
from controller.registry.oci.session import Session
from reconcile.answers import RegistryCall
from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.references import Digest, parse_digest


@dataclass(eq=False)
class BlobsMissing(Invalid):
    """The registry refuses a manifest because it does not hold all blobs that the manifest refers to."""

    digests: frozenset[Digest] = frozenset()


@dataclass(eq=False)
class UploadTooLarge(Invalid):
    """The registry, or a proxy in front of it, takes no request that is as long as this many bytes."""

    length: int = 0


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """The result of a HEAD request for a manifest.

    Attributes:
        digest: None when the registry does not state it, or does not support the request.
        media_type: Empty when it is not the type of a manifest.
    """

    digest: Digest | None
    media_type: str


@dataclass(frozen=True, slots=True)
class BlobHead:
    """The result of a HEAD request for a blob; size is None when the registry does not state it."""

    size: int | None


@dataclass(frozen=True, slots=True)
class Repeatable:
    """The pieces of a body, read anew each time that they are iterated over."""

    read: Callable[[], Iterator[memoryview]]

    def __iter__(self) -> Iterator[memoryview]:
        """Read the pieces from the first one."""
        return self.read()


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """An upload session, and how many bytes it holds.

    Attributes:
        session: The URL for the next request of the upload.
        offset: Bytes that the registry holds.
        call: The call that started the session.
    """

    session: Url
    offset: int
    call: RegistryCall = RegistryCall.UPLOAD_BLOB


def check_part(response: Response, blob: Descriptor, offset: int, subject: str) -> None:
    """Raise an error unless a response is the rest of a blob from an offset on.

    Raises:
        Unavailable: `cut`.
    """
    part = parse_content_range(response.headers.get_all("Content-Range") or [])
    fits = part is not None and part.first == offset and part.total in {blob.size, None}
    if response.status != 206 or not fits:
        raise Unavailable("registry", ErrorCode.CUT, f"{subject}: cannot be resumed at byte {offset}")


def check_length(session: Session, response: Response, blob: Descriptor, subject: str) -> None:
    """Raise an error unless a response is a whole blob.

    Raises:
        Invalid: `size-mismatch`.
    """
    if response.status != 200:
        raise session.error(response, subject, RegistryCall.READ_BLOB)
    if response.length not in {blob.size, None}:
        coding = response.headers.get("Content-Encoding") or "none"
        raise Invalid(
            "registry",
            ErrorCode.SIZE_MISMATCH,
            f"{subject}: {response.length} bytes instead of {blob.size} (content coding {coding[:20]!r})",
        )


def digest_header(headers: ReadableHeaders) -> Digest | None:
    """Parse the digest that a registry states; None when it states none, or an invalid one."""
    try:
        return parse_digest(headers.get("Docker-Content-Digest") or "")
    except Invalid:
        return None
