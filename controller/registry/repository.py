"""Reads and writes one repository in the specification's words: manifests, blobs, uploads, mounts.

Calls block and are made in threads. Source: OCI distribution specification 1.1; what the CNCF
registry really answers was observed on version 2.8.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from controller.registry.answers import Answer
from controller.registry.challenges import delete_scope, merge_scopes, pull_scope, push_scope
from controller.registry.errors import error_from_refusal, parse_entries
from controller.registry.exchange import Request
from controller.registry.findings import (
    BlobHead,
    BlobsMissing,
    ManifestHead,
    UploadStatus,
    check_length,
    check_part,
    digest_header,
)
from controller.registry.manifests import (
    ACCEPT,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    Descriptor,
    Document,
    digest_of,
    media_type_of,
    parse_document,
)
from controller.registry.ranges import parse_upload_range
from controller.registry.session import Session
from controller.registry.uploads import closing_url, session_url
from controller.registry.urls import Url
from reconcile.errors import Denied, Invalid, Unavailable
from reconcile.images import Digest, parse_digest

_MANIFEST_HEADERS = {"Accept": ACCEPT}
_STORED = frozenset({200, 201, 202, 204})
_DELETED = frozenset({200, 202, 204})
_REDIRECTED_HEAD = frozenset({400, 403, 405})
_DIGESTS = re.compile(rb"sha256:[0-9a-f]{64}(?![0-9a-f])|sha512:[0-9a-f]{128}(?![0-9a-f])")


class Repository:
    """One repository as one identity sees it, for the length of one piece of work."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.image = session.image
        self._pull = merge_scopes([pull_scope(self.image.path)])
        self._push = merge_scopes([push_scope(self.image.path)])
        self._delete = merge_scopes([delete_scope(self.image.path)])
        self._closed_holders: dict[str, bool] = {}  # to whether the registry does without their token

    def head_manifest(self, version: str) -> ManifestHead:
        """Ask about a tag or a digest; costs no pull on Docker Hub.

        Raises:
            NotFound: It is not there, or so the registry says.
        """
        return self.session.retry(self._head_manifest, version)

    def _head_manifest(self, version: str) -> ManifestHead:
        subject = self.session.subject(version)
        request = Request("HEAD", self.session.url(f"manifests/{version}"), _MANIFEST_HEADERS)
        with self.session.send(request, self._pull, subject) as answer:
            if answer.status == 200:
                media_type = media_type_of(answer.headers.get("Content-Type"))
                return ManifestHead(
                    digest_header(answer.headers), media_type if media_type in MANIFEST_TYPES else ""
                )
            error = self.session.error(answer, f"{subject} (look up manifest)")
            if isinstance(error, Invalid):
                return ManifestHead(None, "")
            raise error

    def fetch_manifest(self, version: str) -> Document:
        """Read a manifest or an index; its digest is computed, never believed.

        Raises:
            Invalid: It cannot be read, or is not what its digest says.
        """
        return self.session.retry(self._fetch_manifest, version)

    def _fetch_manifest(self, version: str) -> Document:
        subject = self.session.subject(version)
        request = Request("GET", self.session.url(f"manifests/{version}"), _MANIFEST_HEADERS)
        with self.session.send(request, self._pull, subject) as answer:
            if answer.status != 200:
                error = self.session.error(answer, f"{subject} (read manifest)")
                if error.code == "MANIFEST_INVALID":  # a pull-through cache that has not read it yet
                    raise Unavailable(error.system, error.code, error.detail)
                raise error
            raw = answer.read(MAX_MANIFEST + 1)
            if len(raw) > MAX_MANIFEST:
                raise Invalid("registry", "manifest-too-large", f"{subject}: larger than 4 MiB")
        asked = parse_digest(version) if ":" in version else digest_header(answer.headers)
        if asked is not None and digest_of(raw, asked.algorithm) != asked:
            coding = answer.headers.get("Content-Encoding")
            encoded = f" (sent with content coding {coding[:20]!r})" if coding else ""
            raise Invalid(
                "registry", "digest-mismatch", f"{subject}: the bytes are not those of {asked}{encoded}"
            )
        document = parse_document(raw, media_type_of(answer.headers.get("Content-Type")), subject)
        return replace(document, digest=asked) if asked is not None and ":" in version else document

    def push_manifest(self, document: Document, version: str) -> bool:
        """Store a document under a tag or its digest.

        Returns:
            Whether the registry lists it among what refers to its subject.

        Raises:
            BlobsMissing: The registry wants blobs first.
        """
        return self.session.retry(self._push_manifest, document, version)

    def _push_manifest(self, document: Document, version: str) -> bool:
        subject = self.session.subject(version)
        headers = {"Content-Type": document.media_type}
        request = Request("PUT", self.session.url(f"manifests/{version}"), headers, document.raw)
        with self.session.send(request, self._push, subject) as answer:
            if answer.status in _STORED:
                answer.drain()
                stored = digest_header(answer.headers)
                if stored is not None and digest_of(document.raw, stored.algorithm) != stored:
                    raise Invalid("registry", "digest-mismatch", f"{subject}: stored as {stored}")
                return answer.headers.get("OCI-Subject") is not None
            refusal = self.session.refusal(answer, f"{subject} (write manifest)")
        error = error_from_refusal(refusal)
        if any(entry.code == "MANIFEST_BLOB_UNKNOWN" for entry in parse_entries(refusal.body)):
            missing = frozenset(parse_digest(each.decode()) for each in _DIGESTS.findall(refusal.body))
            raise BlobsMissing(error.system, "MANIFEST_BLOB_UNKNOWN", error.detail, missing)
        raise error

    def delete_manifest(self, digest: Digest) -> None:
        """Delete a manifest, and with it every tag of it; blobs stay until the registry collects garbage.

        Raises:
            NotFound: It is not there; perhaps no more, after an answer that was lost.
            Invalid: `UNSUPPORTED` when the registry does not delete.
        """
        self.session.retry(self._delete_manifest, digest)

    def _delete_manifest(self, digest: Digest) -> None:
        subject = self.session.subject(str(digest))
        request = Request("DELETE", self.session.url(f"manifests/{digest}"))
        with self.session.send(request, self._delete, subject) as answer:
            if answer.status in _DELETED:
                answer.drain()
                return
            error = self.session.error(answer, f"{subject} (delete manifest)")
            if answer.status == 405:  # in its read-only mode the CNCF registry gives no code
                raise Invalid(error.system, "UNSUPPORTED", error.detail)
            raise error

    def find_blob(self, digest: Digest) -> BlobHead | None:
        """Ask whether the repository holds a blob; None when it does not."""
        return self.session.retry(self._find_blob, digest)

    def _find_blob(self, digest: Digest) -> BlobHead | None:
        subject = self.session.subject(str(digest))
        request = Request("HEAD", self.session.url(f"blobs/{digest}"))
        with self.session.send(request, self._push, subject) as answer:
            if answer.status == 200:
                return BlobHead(answer.length)
            if answer.url.origin != self.session.base.origin and answer.status in _REDIRECTED_HEAD:
                return BlobHead(None)  # it pointed at storage, which was signed for GET alone
            if answer.status in {403, 404}:  # some registries call forbidden what is not there
                return None
            raise self.session.error(answer, f"{subject} (look up blob)")

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Answer:
        """Begin to read a blob from an offset; the caller counts, hashes and closes.

        An answer of status 200 to an offset is the whole blob: the registry does not do ranges.

        Raises:
            Invalid: `size-mismatch` when the answer's length is not what the manifest says.
            Unavailable: `cut` when another part than the rest of it was sent.
        """
        return self.session.retry(self._open_blob, blob, offset)

    def _open_blob(self, blob: Descriptor, offset: int) -> Answer:
        subject = self.session.subject(str(blob.digest))
        ranged = {"Range": f"bytes={offset}-{blob.size - 1}"} if offset else {}
        request = Request(
            "GET",
            self.session.url(f"blobs/{blob.digest}"),
            ranged,
            total=self.session.timeouts.for_blob(blob.size),
            is_urgent=offset > 0,
        )
        answer = self.session.send(request, self._pull, subject)
        try:
            self._check_blob(answer, blob, offset, subject)
        except BaseException:
            answer.close()
            raise
        return answer

    def _check_blob(self, answer: Answer, blob: Descriptor, offset: int, subject: str) -> None:
        if offset and answer.status in {206, 416}:
            check_part(answer, blob, offset, subject)
        else:
            check_length(self.session, answer, blob, subject)

    def start_upload(self, digest: Digest) -> Url:
        """Open an upload session for a blob."""
        return self.session.retry(self._start_upload, digest)

    def _start_upload(self, digest: Digest) -> Url:
        subject = self.session.subject(str(digest))
        request = Request("POST", self.session.url("blobs/uploads/"), {"Content-Length": "0"})
        with self.session.send(request, self._push, subject) as answer:
            if answer.status != 202:
                raise self.session.error(answer, f"{subject} (start upload)")
            answer.drain()
            return session_url(answer.url, answer.headers.get("Location"))

    def mount(self, digest: Digest, holder: str) -> Url | None:
        """Take a blob over from another repository of the registry: None when that was done.

        Otherwise the registry has opened an upload session instead, and this is where it goes on.
        A refusal of any kind is an error, after which a plain upload may still work.
        """
        subject = self.session.subject(str(digest))
        query = f"?mount={quote(str(digest), safe='')}&from={quote(holder, safe='')}"
        request = Request("POST", self.session.url(f"blobs/uploads/{query}"), {"Content-Length": "0"})
        if self._closed_holders.get(holder) is False:
            raise Denied("registry", "no-token", f"{subject} (mount from {holder}): refused before")
        both = merge_scopes(self._push, [pull_scope(holder)])
        scopes = self._push if holder in self._closed_holders else both
        try:
            answer = self.session.send(request, scopes, subject)
        except Denied:
            # Some token servers refuse tokens for two repositories; the registry may not need one.
            self._closed_holders[holder] = False
            answer = self.session.send(request, self._push, subject)
            self._closed_holders[holder] = answer.status in {201, 202}
        with answer:
            if answer.status not in {201, 202}:
                raise self.session.error(answer, f"{subject} (mount from {holder})")
            answer.drain()
            return None if answer.status == 201 else session_url(answer.url, answer.headers.get("Location"))

    def upload_blob(
        self, session: Url, blob: Descriptor, pieces: Iterable[memoryview], *, offset: int = 0
    ) -> None:
        """Send a blob's bytes from an offset; errors raised by the pieces come through as they are.

        Raises:
            Unavailable: `token-expired` or `upload-failed` when the same upload may work once more.
        """
        subject = self.session.subject(str(blob.digest))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size - offset)}
        if offset:
            headers["Content-Range"] = f"{offset}-{blob.size - 1}"
        total = self.session.timeouts.for_blob(blob.size)
        request = Request("PUT", closing_url(session, blob.digest), headers, pieces, total=total)
        header = self.session.header(self._push, subject)
        with self.session.send_once(request, header) as answer:
            if answer.status in _STORED:
                answer.drain()
                stored = digest_header(answer.headers)
                if stored is not None and stored.algorithm == blob.digest.algorithm and stored != blob.digest:
                    raise Invalid("registry", "digest-mismatch", f"{subject}: stored as {stored}")
                return
            error = self.session.error(answer, f"{subject} (upload blob)")
            if self.session.meets(answer, self._push, refused=header, subject=subject):
                raise Unavailable("registry", "token-expired", error.detail)
        if answer.status >= 500 and isinstance(error, Unavailable) and error.retry_after is None:
            raise Unavailable("registry", "upload-failed", f"{error.detail} ({error.code})")
        raise error

    def find_upload(self, session: Url) -> UploadStatus | None:
        """Ask how far a broken upload came; None when it cannot be gone on with."""
        request = Request("GET", session)
        with self.session.send(request, self._push, self.session.subject("upload")) as answer:
            answer.drain()
            offset = parse_upload_range(answer.headers.get("Range")) if answer.status == 204 else 0
            if not offset:
                return None
            location = answer.headers.get("Location")
            return UploadStatus(session_url(answer.url, location) if location else session, offset)
