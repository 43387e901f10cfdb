"""Writes blobs to one repository, by uploads and mounts; its calls block and are made in threads.

Source: OCI distribution specification 1.1; the behaviour of the CNCF registry was observed on version 2.8.
"""

from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import quote

from controller.registry.auth.challenges import delete_scope, merge_scopes, pull_scope, push_scope
from controller.registry.http.request import Request
from controller.registry.http.response import Response
from controller.registry.http.urls import Url
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.ranges import parse_least_chunk, parse_upload_range
from controller.registry.oci.results import UploadStatus, UploadTooLarge, digest_header
from controller.registry.oci.session import Session
from controller.registry.oci.upload_urls import closing_url, session_url
from controller.threads import Stopped
from reconcile.answers import RegistryCall
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, Unavailable, Verdict
from reconcile.references import Digest

_STORED = frozenset({200, 201, 202, 204})
_DROPPED = frozenset({200, 202, 204})
_CANCEL_TIME = 2.0
"""Seconds for each request that cancels an upload."""


class BlobUploads:
    """The uploads to one repository.

    The `session` that methods take is the URL of an upload session of the registry.

    Attributes:
        least_chunk: Bytes that each part of an upload but the last must have, as the registry has stated with
            the latest upload session; 0 where it has stated nothing.
    """

    def __init__(self, session: Session) -> None:
        self._session, path = session, session.image.path
        self._subject = f"an upload to {session.image.repository}"
        self._push = merge_scopes([push_scope(path)])
        self._delete = merge_scopes([delete_scope(path)])
        # Repository to whether a mount from it works without a token for it.
        self._tokenless_mounts: dict[str, bool] = {}
        self.least_chunk = 0

    def start(self, digest: Digest) -> Url:
        """Start an upload session for a blob, and return its URL."""
        return self._session.retry(self._start, digest)

    def _start(self, digest: Digest) -> Url:
        subject = self._session.subject(str(digest))
        request = Request("POST", self._session.url("blobs/uploads/"), {"Content-Length": "0"})
        with self._session.send(request, self._push, subject) as response:
            if response.status != 202:
                raise self._session.error(response, subject, RegistryCall.START_UPLOAD)
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
        subject = self._session.subject(str(digest))
        query = f"?mount={quote(str(digest), safe='')}&from={quote(mount_from, safe='')}"
        request = Request("POST", self._session.url(f"blobs/uploads/{query}"), {"Content-Length": "0"})
        if self._tokenless_mounts.get(mount_from) is False:
            raise Denied("registry", "no-token", f"{subject} (mount from {mount_from}): refused before")
        both = merge_scopes(self._push, [pull_scope(mount_from)])
        scopes = self._push if mount_from in self._tokenless_mounts else both
        try:
            response = self._session.send(request, scopes, subject)
        except Denied:
            # Some token servers refuse a token for two repositories; the registry may not need one.
            self._tokenless_mounts[mount_from] = False
            response = self._session.send(request, self._push, subject)
            self._tokenless_mounts[mount_from] = response.status in {201, 202}
        with response:
            if response.status not in {201, 202}:
                # It says nothing about the registry: the blob is uploaded then.
                named = f"{subject} from {mount_from}"
                raise self._session.error(response, named, RegistryCall.MOUNT_BLOB)
            if response.status == 202:
                return self._started_session(response)
            response.drain()
            return None

    def upload(
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
        subject = self._session.subject(str(blob.digest))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size - offset)}
        if offset:
            headers["Content-Range"] = f"{offset}-{blob.size - 1}"
        total = self._session.timeouts.longest
        request = Request("PUT", closing_url(session, blob.digest), headers, pieces, total=total)
        header = self._session.header(self._push, subject)
        with self._session.send_upload(request, header) as response:
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
        """Return the error of a refused upload; Unavailable if the same upload may succeed later."""
        error = self._session.error(response, subject, call)
        if response.status == 413:
            return UploadTooLarge(
                error.system, error.code, error.detail, length=response.sent, verdict=error.verdict
            )
        if self._session.may_succeed_when_repeated(response, self._push, refused=refused, subject=subject):
            return Unavailable("registry", ErrorCode.TOKEN_EXPIRED, error.detail)
        is_passing = isinstance(error, Unavailable) and error.retry_after is None
        if response.status >= 500 and is_passing and error.verdict is Verdict.OTHER_WAY:
            detail = f"{error.detail} ({error.code})"
            return Unavailable("registry", ErrorCode.UPLOAD_FAILED, detail, verdict=error.verdict)
        return error

    def push(self, blob: Descriptor, content: bytes) -> None:
        """Upload a small blob; an upload that fails is cancelled."""
        session = self.start(blob.digest)
        try:
            self.upload(session, blob, [memoryview(content)])
        except BaseException:
            self.cancel(session)
            raise

    def append(
        self, session: Url, blob: Descriptor, pieces: Iterable[memoryview], *, offset: int, length: int
    ) -> Url:
        """Upload a part of a blob's bytes, and return where the upload continues.

        Raises:
            Unavailable: `token-expired` or `upload-failed` when the upload may be resumed.
            UploadTooLarge: It may succeed in smaller parts.
        """
        subject = self._session.subject(str(blob.digest))
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{offset}-{offset + length - 1}",
        }
        total = self._session.timeouts.longest
        request = Request("PATCH", session, headers, pieces, total=total)
        header = self._session.header(self._push, subject)
        with self._session.send_upload(request, header) as response:
            if response.status in _STORED:
                response.drain()
                location = response.headers.get("Location")
                return session_url(response.url, location) if location else session
            raise self._upload_error(response, subject, refused=header, call=RegistryCall.UPLOAD_BLOB)

    def find(self, session: Url) -> UploadStatus | None:
        """Look up how many bytes of a broken upload arrived; None when it cannot be resumed.

        One that is there and holds nothing is cancelled here: only the answer has the URL that it has now.
        """
        with self._session.send(Request("GET", session), self._push, self._subject) as response:
            response.drain()
            if response.status != 204:
                return None
            offset = parse_upload_range(response.headers.get("Range"))
            location = response.headers.get("Location")
            newest = session_url(response.url, location) if location else session
        if offset:
            return UploadStatus(newest, offset)
        self.cancel(newest)
        return None

    def cancel(self, session: Url) -> bool:
        """Cancel an upload, also after its work was cancelled; return whether the registry has dropped it.

        It takes a few seconds at most, and raises nothing: what is left over, the registry has to purge.
        """
        with suppress(DockerCacheError, Stopped):
            if self._drop_upload(session):
                return True
            # A session that was written to may have another URL by now.
            request = Request("GET", session, total=_CANCEL_TIME)
            with self._session.send_urgently(request, self._push, self._subject) as response:
                response.drain()
                location = response.headers.get("Location") if response.status == 204 else None
                newest = session_url(response.url, location) if location else None
            return newest is not None and self._drop_upload(newest)
        return False

    def _drop_upload(self, session: Url) -> bool:
        request = Request("DELETE", session, {"Content-Length": "0"}, total=_CANCEL_TIME)
        scopes = merge_scopes(self._push, self._delete)
        with self._session.send_urgently(request, scopes, self._subject) as response:
            response.drain()
            return response.status in _DROPPED
