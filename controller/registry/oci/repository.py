"""Reads and writes the manifests and blobs of one repository; its calls block and are made in threads.

Source: OCI distribution specification 1.1; the behaviour of the CNCF registry was observed on version 2.8.
"""

import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

from controller.registry.auth.challenges import delete_scope, merge_scopes, pull_scope, push_scope
from controller.registry.http.refusals import parse_entries
from controller.registry.http.request import Request
from controller.registry.http.response import Response
from controller.registry.http.urls import Url
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
from controller.registry.oci.ranges import parse_content_range, parse_least_chunk, parse_upload_range
from controller.registry.oci.results import (
    BlobHead,
    BlobsMissing,
    ManifestHead,
    UploadStatus,
    UploadTooLarge,
    check_length,
    check_part,
    digest_header,
)
from controller.registry.oci.session import Session
from controller.registry.oci.uploads import closing_url, session_url
from controller.threads import Stopped
from reconcile.answers import RegistryCall
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, Unavailable, Verdict
from reconcile.references import Digest, parse_digest

_MANIFEST_HEADERS = {"Accept": ACCEPT}
_STORED = frozenset({200, 201, 202, 204})
_DELETED = frozenset({200, 202, 204})
_CANCEL_TIME = 2.0
"""Seconds for each request that cancels an upload."""

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
        least_chunk: Bytes that each part of an upload but the last must have, as the registry has stated with
            the latest upload session; 0 where it has stated nothing.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.image = session.image
        self._pull = merge_scopes([pull_scope(self.image.path)])
        self._push = merge_scopes([push_scope(self.image.path)])
        self._delete = merge_scopes([delete_scope(self.image.path)])
        # Repository to whether a mount from it works without a token for it.
        self._tokenless_mounts: dict[str, bool] = {}
        self.least_chunk = 0

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
                raise Invalid("registry", "manifest-too-large", f"{subject}: larger than 4 MiB")
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

    def start_upload(self, digest: Digest) -> Url:
        """Start an upload session for a blob, and return its URL."""
        return self.session.retry(self._start_upload, digest)

    def _start_upload(self, digest: Digest) -> Url:
        subject = self.session.subject(str(digest))
        request = Request("POST", self.session.url("blobs/uploads/"), {"Content-Length": "0"})
        with self.session.send(request, self._push, subject) as response:
            if response.status != 202:
                raise self.session.error(response, subject, RegistryCall.START_UPLOAD)
            return self._started_session(response)

    def _started_session(self, response: Response) -> Url:
        response.drain()
        self.least_chunk = parse_least_chunk(response.headers.get("OCI-Chunk-Min-Length"))
        return session_url(response.url, response.headers.get("Location"))

    def mount(self, digest: Digest, mount_from: str) -> Url | None:
        """Mount a blob from another repository of the registry.

        A refusal is raised as an error. An upload may still work after it.

        Returns:
            None when the blob was mounted; otherwise the URL of the upload session that the registry
            started instead.
        """
        subject = self.session.subject(str(digest))
        query = f"?mount={quote(str(digest), safe='')}&from={quote(mount_from, safe='')}"
        request = Request("POST", self.session.url(f"blobs/uploads/{query}"), {"Content-Length": "0"})
        if self._tokenless_mounts.get(mount_from) is False:
            raise Denied("registry", "no-token", f"{subject} (mount from {mount_from}): refused before")
        both = merge_scopes(self._push, [pull_scope(mount_from)])
        scopes = self._push if mount_from in self._tokenless_mounts else both
        try:
            response = self.session.send(request, scopes, subject)
        except Denied:
            # Some token servers refuse a token for two repositories; the registry may not need one.
            self._tokenless_mounts[mount_from] = False
            response = self.session.send(request, self._push, subject)
            self._tokenless_mounts[mount_from] = response.status in {201, 202}
        with response:
            if response.status not in {201, 202}:
                # It says nothing about the registry: the blob is uploaded then.
                named = f"{subject} from {mount_from}"
                raise self.session.error(response, named, RegistryCall.MOUNT_BLOB)
            if response.status == 202:
                return self._started_session(response)
            response.drain()
            return None

    def upload_blob(
        self,
        session: Url,
        blob: Descriptor,
        pieces: Iterable[memoryview],
        *,
        offset: int = 0,
        call: RegistryCall = RegistryCall.UPLOAD_BLOB,
    ) -> None:
        """Upload a blob's bytes from an offset, and complete it; errors that the pieces raise are passed on.

        Args:
            session: Where the upload continues.
            blob: What is uploaded.
            pieces: Its bytes from the offset on. If they can be iterated over again, a redirect is followed.
            offset: How many bytes the session holds already.
            call: How the session came about.

        Raises:
            Unavailable: `token-expired` or `upload-failed` when the same upload may succeed later.
            UploadTooLarge: It may succeed in smaller parts.
        """
        subject = self.session.subject(str(blob.digest))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size - offset)}
        if offset:
            headers["Content-Range"] = f"{offset}-{blob.size - 1}"
        total = self.session.timeouts.longest
        request = Request("PUT", closing_url(session, blob.digest), headers, pieces, total=total)
        header = self.session.header(self._push, subject)
        with self.session.send_upload(request, header) as response:
            if response.status in _STORED:
                response.drain()
                stored = digest_header(response.headers)
                if stored is not None and stored.algorithm == blob.digest.algorithm and stored != blob.digest:
                    raise Invalid("registry", ErrorCode.DIGEST_MISMATCH, f"{subject}: stored as {stored}")
                return
            raise self._upload_error(response, subject, refused=header, call=call)

    def _upload_error(
        self, response: Response, subject: str, *, refused: str | None, call: RegistryCall
    ) -> DockerCacheError:
        """Return the error of an upload that was refused, and which of them the same upload may get over."""
        error = self.session.error(response, subject, call)
        if response.status == 413:
            return UploadTooLarge(
                error.system, error.code, error.detail, length=response.sent, verdict=error.verdict
            )
        if self.session.may_succeed_when_repeated(response, self._push, refused=refused, subject=subject):
            return Unavailable("registry", ErrorCode.TOKEN_EXPIRED, error.detail)
        is_passing = isinstance(error, Unavailable) and error.retry_after is None
        if response.status >= 500 and is_passing and error.verdict is Verdict.OTHER_WAY:
            detail = f"{error.detail} ({error.code})"
            return Unavailable("registry", ErrorCode.UPLOAD_FAILED, detail, verdict=error.verdict)
        return error

    def push_blob(self, blob: Descriptor, content: bytes) -> None:
        """Upload a small blob; an upload that fails is cancelled."""
        session = self.start_upload(blob.digest)
        try:
            self.upload_blob(session, blob, [memoryview(content)])
        except BaseException:
            self.cancel_upload(session)
            raise

    def append_to_upload(
        self, session: Url, blob: Descriptor, pieces: Iterable[memoryview], *, offset: int, length: int
    ) -> Url:
        """Upload a part of a blob's bytes, and return where the upload continues.

        Raises:
            Unavailable: `token-expired` or `upload-failed` when the upload may be resumed.
        """
        subject = self.session.subject(str(blob.digest))
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{offset}-{offset + length - 1}",
        }
        total = self.session.timeouts.longest
        request = Request("PATCH", session, headers, pieces, total=total)
        header = self.session.header(self._push, subject)
        with self.session.send_upload(request, header) as response:
            if response.status in _STORED:
                response.drain()
                location = response.headers.get("Location")
                return session_url(response.url, location) if location else session
            raise self._upload_error(response, subject, refused=header, call=RegistryCall.UPLOAD_BLOB)

    def find_upload(self, session: Url) -> UploadStatus | None:
        """Look up how many bytes of a broken upload arrived; one that cannot be resumed is cancelled.

        Returns:
            None when it cannot be resumed.
        """
        with self.session.send(
            Request("GET", session), self._push, self.session.subject("upload")
        ) as response:
            response.drain()
            if response.status != 204:
                return None
            offset = parse_upload_range(response.headers.get("Range"))
            location = response.headers.get("Location")
            newest = session_url(response.url, location) if location else session
        if offset:
            return UploadStatus(newest, offset)
        self.cancel_upload(newest)
        return None

    def cancel_upload(self, session: Url) -> bool:
        """Cancel an upload, also after its work was cancelled; return whether the registry has dropped it.

        It takes a few seconds at most, and raises nothing: what is left over, the registry has to purge.
        """
        with suppress(DockerCacheError, Stopped):
            if self._drop_upload(session):
                return True
            # A session that was written to may have another URL by now.
            request = Request("GET", session, total=_CANCEL_TIME)
            with self.session.send_urgently(request, self._push, self.session.subject("upload")) as response:
                response.drain()
                location = response.headers.get("Location") if response.status == 204 else None
                newest = session_url(response.url, location) if location else None
            return newest is not None and self._drop_upload(newest)
        return False

    def _drop_upload(self, session: Url) -> bool:
        request = Request("DELETE", session, {"Content-Length": "0"}, total=_CANCEL_TIME)
        scopes = merge_scopes(self._push, self._delete)
        with self.session.send_urgently(request, scopes, self.session.subject("upload")) as response:
            response.drain()
            return response.status in _DELETED
