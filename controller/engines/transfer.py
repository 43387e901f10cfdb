"""Brings a planned image from one repository into another: blobs, then manifests, then the proof."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

from controller.engines.copy_plan import CopyLimits, CopyPlan, stored_digest
from controller.engines.parallel import in_parallel
from controller.engines.progress import ProgressMeter
from controller.registry.blobs import BlobReader
from controller.registry.cancellation import Cancellation
from controller.registry.client import BlobsMissing, Repository
from controller.registry.manifests import Descriptor, Document, Manifest
from controller.registry.urls import Url
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from reconcile.images import Digest
from reconcile.ports import CopiedImage

# What one more try of the same blob from its start may mend.
_RESTARTED = frozenset(
    {
        "cut",
        "connection",
        "timeout",
        "digest-mismatch",
        "size-mismatch",
        "token-expired",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
    }
)
_MOST_PUTS = 3


class Transfer:
    """One image on its way; its methods block."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        *,
        limits: CopyLimits,
        meter: ProgressMeter,
        cancellation: Cancellation,
    ) -> None:
        self._source, self._target = source, target
        self._limits, self._meter, self._cancellation = limits, meter, cancellation
        self._own = threading.local()
        self._brought: list[Descriptor] = []

    def run(self, plan: CopyPlan, tag: str, holders: Mapping[Digest, str]) -> CopiedImage:
        """Copy what is missing, give the root its tag, and read it all back.

        Args:
            plan: What to copy.
            tag: Written last.
            holders: Blob to a repository of the private registry that holds it.
        """
        self._meter.expect(plan.blob_bytes)
        is_tagged = self._is_tagged(plan.root, tag)
        self._all(lambda blob: self._bring(blob, holders.get(blob.digest)), plan.blobs)
        if self._brought or not is_tagged:
            for document in plan.documents[:-1]:
                self._push(document, str(stored_digest(document)), plan)
            self._push(plan.root, tag, plan)
        self._verify(plan, tag)
        return CopiedImage(
            digest=stored_digest(plan.root),
            size=plan.size,
            transferred=self._meter.read().moved,
            blobs=tuple(blob.digest for blob in plan.blobs),
        )

    def _all(self, function: Callable[[Descriptor], None], blobs: Iterable[Descriptor]) -> None:
        largest_first = sorted(blobs, key=lambda blob: -blob.size)
        in_parallel(
            function, largest_first, most=self._limits.blobs_at_a_time, cancellation=self._cancellation
        )

    def _is_tagged(self, root: Document, tag: str) -> bool:
        try:
            return self._target.head_manifest(tag).digest == stored_digest(root)
        except (NotFound, Denied, Invalid):
            return False  # writing will tell

    def _bring(self, blob: Descriptor, holder: str | None) -> None:
        """See to it that the target holds a blob, with as few bytes as that takes."""
        head = self._target.find_blob(blob.digest)
        if head is not None and head.size in {blob.size, None}:
            self._meter.skip(blob.size)
            return
        session = None
        if holder is not None:
            try:
                session = self._target.mount(blob.digest, holder)
            except RateLimited:
                raise
            except DockerCacheError:
                session = None  # a plain upload needs less permission
            else:
                if session is None:
                    self._meter.skip(blob.size)
                    self._brought.append(blob)
                    return
        self._upload(blob, session)
        self._brought.append(blob)

    def _upload(self, blob: Descriptor, session: Url | None = None) -> None:
        try:
            self._upload_once(blob, session)
        except DockerCacheError as error:
            if error.code not in _RESTARTED:
                raise
            self._meter.retry()
        else:
            return
        if self._target.find_blob(blob.digest) is None:  # an answer may have been lost, not the blob
            self._upload_once(blob, None)

    def _upload_once(self, blob: Descriptor, session: Url | None) -> None:
        moved = 0

        def counted(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
            nonlocal moved
            for piece in pieces:
                moved += len(piece)
                self._meter.move(len(piece))
                yield piece

        try:
            with self._open(blob) as reader:
                try:
                    session = session or self._target.start_upload(blob.digest)
                    self._target.upload_blob(session, blob, counted(reader.pieces()))
                finally:
                    self._meter.retry(reader.resumes)
        except BaseException:
            self._meter.move(-moved)
            raise

    def _open(self, blob: Descriptor) -> BlobReader:
        try:
            return BlobReader(self._source, blob, self._buffer())
        except NotFound as error:
            if not blob.urls:
                raise
            detail = f"{error.detail} (a foreign layer, which its registry does not hold)"
            raise Invalid(error.system, "foreign-layer", detail) from error

    def _buffer(self) -> memoryview:
        """Give this thread's one buffer."""
        buffer: memoryview | None = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = memoryview(bytearray(self._limits.buffer))
            self._own.buffer = buffer
        return buffer

    def _push(self, document: Document, version: str, plan: CopyPlan) -> None:
        for attempt in range(_MOST_PUTS):
            try:
                self._target.push_manifest(document, version)
            except BlobsMissing as error:
                again = [blob for blob in plan.blobs if blob.digest in error.digests]
                if attempt == _MOST_PUTS - 1 or not again:
                    raise
                self._meter.retry(len(again))
                self._all(self._upload, again)
                self._brought.extend(again)
            except Unavailable as error:
                if isinstance(document, Manifest) and any(layer.urls for layer in document.layers):
                    raise Invalid(error.system, "foreign-layer", error.detail) from error
                raise
            else:
                return

    def _verify(self, plan: CopyPlan, tag: str) -> None:
        """Read back what the target now serves."""
        for document in plan.documents:
            digest = stored_digest(document)
            if self._target.fetch_manifest(str(digest)).raw != document.raw:
                raise Invalid("registry", "not-verified", f"{self._target.image.repository}@{digest} differs")
        if not self._is_tagged(plan.root, tag) and self._target.fetch_manifest(tag).raw != plan.root.raw:
            raise Invalid("registry", "not-verified", f"{self._target.image.repository}:{tag} differs")
        self._all(self._check, {blob.digest: blob for blob in self._brought}.values())

    def _check(self, blob: Descriptor) -> None:
        head = self._target.find_blob(blob.digest)
        if head is None or head.size not in {blob.size, None}:
            raise Unavailable(
                "registry",
                "not-verified",
                f"{self._target.image.repository}@{blob.digest} is not there after its upload",
            )
