"""Reads and writes the manifests of one repository, and reads its blobs; calls block and are made in threads.

Source: OCI distribution specification 1.1; the behaviour of the CNCF registry was observed on version 2.8.
"""

import re
import zlib
from dataclasses import replace

from controller.registry.auth.challenges import delete_scope, merge_scopes, pull_scope, push_scope
from controller.registry.http.refusals import parse_entries
from controller.registry.http.request import Request
from controller.registry.http.response import Response
from controller.registry.oci.blob_uploads import BlobUploads
from controller.registry.oci.manifests import (
    ACCEPT,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    Descriptor,
    Document,
    digest_of,
    media_type_of,
    parse_document,
)
from controller.registry.oci.ranges import parse_content_range
from controller.registry.oci.results import (
    BlobHead,
    BlobsMissing,
    ManifestHead,
    check_length,
    check_part,
    digest_header,
)
from controller.registry.oci.session import Session
from reconcile.answers import RegistryCall
from reconcile.errors import ErrorCode, Invalid, NotFound, Verdict
from reconcile.references import Digest, parse_digest

_MANIFEST_HEADERS = {"Accept": ACCEPT}
_STORED = frozenset({200, 201, 202, 204})
_DELETED = frozenset({200, 202, 204})
_REDIRECTED_HEAD = frozenset({400, 403, 405})
_DIGESTS = re.compile(rb"sha256:[0-9a-f]{64}(?![0-9a-f])|sha512:[0-9a-f]{128}(?![0-9a-f])")


def _decoded(raw: bytes, coding: str | None) -> bytes:
    """Undo a content coding that nobody asked for; bytes that are not coded so, or are too many, stay."""
    if (coding or "").strip().lower() not in {"gzip", "x-gzip"}:
        return raw
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        decoded = decoder.decompress(raw, MAX_MANIFEST + 1)
    except zlib.error:
        return raw
    return decoded if decoder.eof and len(decoded) <= MAX_MANIFEST else raw


class Repository:
    """One repository, accessed with one identity for one piece of work.

    Attributes:
        session: Its requests.
        image: The image that it was opened for.
        uploads: Writes blobs to the repository.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.image = session.image
        self._pull = merge_scopes([pull_scope(self.image.path)])
        self._push = merge_scopes([push_scope(self.image.path)])
        self._delete = merge_scopes([delete_scope(self.image.path)])
        self.uploads = BlobUploads(session)

    def head_manifest(self, tag_or_digest: str) -> ManifestHead:
        """Look up a tag or a digest; Docker Hub does not count this as a pull.

        Where a registry refuses such requests, nothing is known of what reading it would be answered with.

        Raises:
            NotFound: The registry does not have it.
        """
        return self.session.retry(self._head_manifest, tag_or_digest)

    def _head_manifest(self, tag_or_digest: str) -> ManifestHead:
        subject = self.session.subject(tag_or_digest)
        request = Request("HEAD", self.session.url(f"manifests/{tag_or_digest}"), _MANIFEST_HEADERS)
        with self.session.send(request, self._pull, subject) as response:
            if response.status == 200:
                media_type = media_type_of(response.headers.get("Content-Type"))
                return ManifestHead(
                    digest_header(response.headers), media_type if media_type in MANIFEST_TYPES else ""
                )
            error = self.session.error(response, subject, RegistryCall.LOOK_UP_MANIFEST)
            is_denied = response.status in {401, 403}
        if error.verdict is Verdict.OTHER_WAY and is_denied:
            # The answer has no body, so it gives no reason; reading it does, or succeeds.
            document = self._fetch_manifest(tag_or_digest)
            return ManifestHead(document.digest, document.media_type)
        if error.verdict is Verdict.OTHER_WAY or isinstance(error, Invalid):
            return ManifestHead(None, "")
        raise error

    def fetch_manifest(self, tag_or_digest: str) -> Document:
        """Fetch a manifest or an index; its digest is computed, not taken from the registry.

        Raises:
            Invalid: It cannot be parsed, or has another digest.
        """
        return self.session.retry(self._fetch_manifest, tag_or_digest)

    def _fetch_manifest(self, tag_or_digest: str) -> Document:
        subject = self.session.subject(tag_or_digest)
        request = Request("GET", self.session.url(f"manifests/{tag_or_digest}"), _MANIFEST_HEADERS)
        with self.session.send(request, self._pull, subject) as response:
            if response.status != 200:
                raise self.session.error(response, subject, RegistryCall.READ_MANIFEST)
            raw = response.read(MAX_MANIFEST + 1)
            if len(raw) > MAX_MANIFEST:
                raise Invalid("registry", ErrorCode.MANIFEST_TOO_LARGE, f"{subject}: larger than 4 MiB")
        asked = parse_digest(tag_or_digest) if ":" in tag_or_digest else digest_header(response.headers)
        coding = response.headers.get("Content-Encoding")
        if asked is not None and digest_of(raw, asked.algorithm) != asked:
            raw = _decoded(raw, coding)
        if asked is not None and digest_of(raw, asked.algorithm) != asked:
            encoded = f" (sent with content coding {coding[:20]!r})" if coding else ""
            raise Invalid(
                "registry",
                ErrorCode.DIGEST_MISMATCH,
                f"{subject}: the bytes are not those of {asked}{encoded}",
            )
        document = parse_document(raw, media_type_of(response.headers.get("Content-Type")), subject)
        return replace(document, digest=asked) if asked is not None and ":" in tag_or_digest else document

    def push_manifest(self, document: Document, tag_or_digest: str) -> bool:
        """Push a document under a tag or its digest.

        Returns:
            Whether the registry lists it among the referrers of its subject.

        Raises:
            BlobsMissing: The registry does not hold all blobs of it.
        """
        return self.session.retry(self._push_manifest, document, tag_or_digest)

    def _push_manifest(self, document: Document, tag_or_digest: str) -> bool:
        subject = self.session.subject(tag_or_digest)
        headers = {"Content-Type": document.media_type}
        request = Request("PUT", self.session.url(f"manifests/{tag_or_digest}"), headers, document.raw)
        with self.session.send(request, self._push, subject) as response:
            if response.status in _STORED:
                response.drain()
                stored = digest_header(response.headers)
                if stored is not None and digest_of(document.raw, stored.algorithm) != stored:
                    raise Invalid("registry", ErrorCode.DIGEST_MISMATCH, f"{subject}: stored as {stored}")
                return response.headers.get("OCI-Subject") is not None
            refusal = self.session.refusal(response, subject, RegistryCall.WRITE_MANIFEST)
        error = self.session.error_of(refusal)
        if any(entry.code == ErrorCode.MANIFEST_BLOB_UNKNOWN for entry in parse_entries(refusal.body)):
            missing = frozenset(parse_digest(each.decode()) for each in _DIGESTS.findall(refusal.body))
            raise BlobsMissing(error.system, ErrorCode.MANIFEST_BLOB_UNKNOWN, error.detail, missing)
        raise error

    def delete_manifest(self, digest: Digest) -> None:
        """Delete a manifest with all its tags; its blobs stay until the registry collects garbage.

        Raises:
            NotFound: It is not there; perhaps it was deleted by an attempt whose response was lost.
            Invalid: `UNSUPPORTED` when the registry does not allow deletion.
        """
        self.session.retry(self._delete_manifest, digest)

    def _delete_manifest(self, digest: Digest) -> None:
        subject = self.session.subject(str(digest))
        request = Request("DELETE", self.session.url(f"manifests/{digest}"))
        with self.session.send(request, self._delete, subject) as response:
            if response.status in _DELETED:
                response.drain()
                return
            error = self.session.error(response, subject, RegistryCall.DELETE_MANIFEST)
            if response.status == 405:  # the CNCF registry sends no code in its read-only mode
                raise Invalid(error.system, ErrorCode.UNSUPPORTED, error.detail)
            raise error

    def find_blob(self, digest: Digest) -> BlobHead | None:
        """Look up a blob; None when the repository does not hold it."""
        return self.session.retry(self._find_blob, digest, self._push)

    def serves_blob(self, blob: Descriptor) -> bool:
        """Whether the repository says that it holds a blob, with the size in the manifest; it is not read."""
        head = self.session.retry(self._find_blob, blob.digest, self._pull)
        return head is not None and head.size in {blob.size, None}

    def _find_blob(self, digest: Digest, scopes: frozenset[str]) -> BlobHead | None:
        subject = self.session.subject(str(digest))
        request = Request("HEAD", self.session.url(f"blobs/{digest}"), may_leave=True)
        with self.session.send(request, scopes, subject) as response:
            if response.status == 200:
                return BlobHead(response.length)
            if response.status == 404:  # most blobs are not there yet
                return None
            if response.url.origin != self.session.base.origin and response.status in _REDIRECTED_HEAD:
                return BlobHead(None)  # it redirected to storage, with a signature for GET alone
            error = self.session.error(response, subject, RegistryCall.LOOK_UP_BLOB)
        if isinstance(error, NotFound):
            return None
        if error.verdict is Verdict.OTHER_WAY:
            return self._find_blob_by_reading(digest, subject)
        raise error

    def _find_blob_by_reading(self, digest: Digest, subject: str) -> BlobHead | None:
        """Look up a blob by reading its first byte, for registries that refuse HEAD requests."""
        url = self.session.url(f"blobs/{digest}")
        request = Request("GET", url, {"Range": "bytes=0-0"}, may_leave=True)
        with self.session.send(request, self._push, subject) as response:
            match response.status:
                case 200:
                    return BlobHead(response.length)
                case 206:
                    part = parse_content_range(response.headers.get_all("Content-Range") or [])
                    return BlobHead(None if part is None else part.total)
                case 416:
                    return BlobHead(0)
                case 403 | 404 | 410:
                    return None
                case _:
                    raise self.session.error(response, subject, RegistryCall.READ_BLOB)

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Response:
        """Start to read a blob from an offset; the caller verifies size and digest, and closes the response.

        A response with status 200 holds the whole blob, even for an offset: the registry ignores ranges.

        Raises:
            Invalid: `size-mismatch` when the length of the response is not the size in the manifest.
            Unavailable: `cut` when the response is not the rest of the blob.
        """
        return self.session.retry(self._open_blob, blob, offset)

    def _open_blob(self, blob: Descriptor, offset: int) -> Response:
        subject = self.session.subject(str(blob.digest))
        ranged = {"Range": f"bytes={offset}-{blob.size - 1}"} if offset else {}
        request = Request(
            "GET",
            self.session.url(f"blobs/{blob.digest}"),
            ranged,
            is_urgent=offset > 0,
            is_blob=True,
            may_leave=True,
        )
        response = self.session.send(request, self._pull, subject)
        try:
            self._check_blob(response, blob, offset, subject)
        except BaseException:
            response.close()
            raise
        return response

    def _check_blob(self, response: Response, blob: Descriptor, offset: int, subject: str) -> None:
        if offset and response.status in {206, 416}:
            check_part(response, blob, offset, subject)
        else:
            check_length(self.session, response, blob, subject)
