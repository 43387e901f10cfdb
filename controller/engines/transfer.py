"""Copies an image from one repository to another: blobs first, then manifests, then the verification."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from controller.engines.blob_transfer import MOST_LOOKS, BlobTransfer
from controller.engines.cell_rules import ANY_BLOB, BlobChecks
from controller.engines.contents import CopyContents, stored_digest
from controller.engines.copy_context import CopyContext
from controller.engines.copy_limits import Verify
from controller.registry.oci.manifests import Descriptor, Document, Manifest
from controller.registry.oci.results import BlobsMissing
from controller.threads import in_parallel
from reconcile.copying_ports import CopiedImage, TargetState
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, Unavailable, Verdict
from reconcile.references import Digest

_MOST_PUTS = 3


class Transfer:
    """One image that is being copied; its methods block."""

    def __init__(
        self,
        context: CopyContext,
        state: TargetState = TargetState.UNKNOWN,
        *,
        checks: BlobChecks = ANY_BLOB,
    ) -> None:
        self._context, self._target, self._state = context, context.target, state
        self._blobs = BlobTransfer(context, checks, state)
        self._sent: list[Descriptor] = []
        self._is_listed = False

    @property
    def is_listed(self) -> bool:
        """Whether the registry lists the root among the referrers of its subject."""
        return self._is_listed

    def run(
        self, contents: CopyContents, tag_or_digest: str, mount_sources: Mapping[Digest, str]
    ) -> CopiedImage:
        """Copy what is missing, tag the root, and verify the copy.

        Args:
            contents: What to copy.
            tag_or_digest: Under which the root is pushed, after everything else.
            mount_sources: Digest of a blob to another repository of the private registry that holds it.
        """
        meter, blobs = self._context.meter, contents.own_blobs
        meter.set_total(contents.blob_bytes)
        is_asked = self._state is not TargetState.EMPTY
        is_tagged = is_asked and self._is_tagged(contents.root, tag_or_digest)

        def ensure_blob(blob: Descriptor) -> None:
            mount_from = mount_sources.get(blob.digest)
            # A mount that succeeds proves as much as a HEAD request would.
            may_exist = is_asked and (is_tagged or mount_from is None or self._state.is_bad)
            if self._blobs.ensure_blob(blob, mount_from, may_exist=may_exist):
                self._sent.append(blob)

        self._all(ensure_blob, blobs)
        if self._context.limits.verify is Verify.FULL:
            self._all(self._blobs.read_back, blobs)
        sent = _distinct(self._sent)
        verified, count = list[Descriptor](), len(self._sent)

        def check(blob: Descriptor) -> None:
            # A registry that refuses the manifest names the missing blobs, which are then sent again.
            with suppress(Unavailable):
                if self._blobs.is_held(blob):
                    verified.append(blob)

        # All blobs have been sent: they are checked while the manifests are pushed.
        checks = [partial(check, blob) for blob in sent]
        is_needed = bool(sent) or not is_tagged or self._state.is_bad
        self._run_all([partial(self._push_all, contents, tag_or_digest), *checks] if is_needed else checks)
        sent_again = self._sent[count:]
        left = _distinct([*sent_again, *(blob for blob in sent if blob not in verified)])
        self._run_all(
            [*self._checks(contents, tag_or_digest), *(partial(self._blobs.check, blob) for blob in left)]
        )
        held = {blob.digest for blob in (*blobs, *self._sent)}
        progress = meter.read()
        return CopiedImage(
            digest=stored_digest(contents.root),
            size=contents.size,
            transferred=progress.transferred,
            blobs=tuple(blob.digest for blob in contents.blobs if blob.digest in held),
            has_zstd_layers=contents.has_zstd_layers,
            mounted=meter.mounted,
            present=progress.skipped - meter.mounted,
            sizes={blob.digest: blob.size for blob in contents.blobs if blob.digest in held},
        )

    def _all(self, function: Callable[[Descriptor], None], blobs: Iterable[Descriptor]) -> None:
        largest_first = sorted(blobs, key=lambda blob: -blob.size)
        in_parallel(
            function,
            largest_first,
            most=self._context.limits.blobs_at_a_time,
            cancellation=self._context.cancellation,
            pool=self._context.resources.workers,
        )

    def _is_tagged(self, root: Document, tag_or_digest: str) -> bool:
        try:
            return self._target.head_manifest(tag_or_digest).digest == stored_digest(root)
        except (NotFound, Denied, Invalid):
            return False  # if it is there after all, it is pushed again

    def _push(self, document: Document, tag_or_digest: str, contents: CopyContents) -> None:
        for attempt in range(_MOST_PUTS):
            try:
                self._is_listed = self._target.push_manifest(document, tag_or_digest)
            except BlobsMissing as error:
                again = [blob for blob in contents.blobs if blob.digest in error.digests]
                children = [each for each in contents.documents if stored_digest(each) in error.digests]
                self._check_foreign(document, again, error)
                if attempt == _MOST_PUTS - 1 or not (again or children):
                    raise
                self._context.meter.add_retries(len(again))
                self._all(self._blobs.upload, again)
                self._sent.extend(again)
                for child in children:
                    self._target.session.pause(attempt + 1)
                    self._target.push_manifest(child, str(child.digest))
            except Unavailable as error:
                if _has_urls(document):
                    raise Invalid(error.system, "foreign-layer", error.detail) from error
                raise
            except DockerCacheError as error:
                if error.verdict is Verdict.OTHER_WAY and self._is_there(document, tag_or_digest):
                    return  # an immutable tag cannot be written again, and need not
                raise
            else:
                return

    def _is_there(self, document: Document, tag_or_digest: str) -> bool:
        """Whether a tag or a digest names a document already, as far as the registry tells."""
        with suppress(DockerCacheError):
            found = self._target.head_manifest(tag_or_digest).digest
            found = found or self._target.fetch_manifest(tag_or_digest).digest
            return found == stored_digest(document)
        return False

    def _check_foreign(self, document: Document, missing: list[Descriptor], error: BlobsMissing) -> None:
        """Refuse to fetch foreign layers, unless that is allowed and may help."""
        may_help = self._context.limits.copy_foreign_layers and not all(
            each in self._sent for each in missing
        )
        if any(each.is_foreign for each in missing) and not may_help:
            detail = f"{error.detail} (the private registry does not take foreign layers as they are)"
            raise Invalid(error.system, "foreign-layer", detail) from error
        if not missing and _has_urls(document):
            raise Invalid(error.system, "foreign-layer", error.detail) from error

    def _push_all(self, contents: CopyContents, tag_or_digest: str) -> None:
        for document in contents.documents[:-1]:
            self._push(document, str(document.digest), contents)
        self._push(contents.root, tag_or_digest, contents)

    def _checks(self, contents: CopyContents, tag_or_digest: str) -> list[Callable[[], None]]:
        """List the checks of all manifests: the root by the tag that cells ask for, the others by digest."""
        return [
            *(partial(self._check, each, str(stored_digest(each))) for each in contents.documents[:-1]),
            partial(self._check, contents.root, tag_or_digest),
        ]

    def _run_all(self, steps: Sequence[Callable[[], None]]) -> None:
        in_parallel(
            lambda step: step(),
            steps,
            most=self._context.limits.blobs_at_a_time,
            cancellation=self._context.cancellation,
            pool=self._context.resources.workers,
        )

    def _check(self, document: Document, tag_or_digest: str) -> None:
        """Read a manifest that was just written, and look for it for a while where it is not there yet."""
        subject = self._target.session.subject(tag_or_digest)
        for attempt in range(1, MOST_LOOKS + 1):
            try:
                found = self._target.fetch_manifest(tag_or_digest)
            except NotFound:
                if attempt < MOST_LOOKS:
                    self._target.session.pause(attempt)
                continue
            if found.raw != document.raw:
                raise Invalid("registry", ErrorCode.NOT_VERIFIED, f"{subject} differs")
            return
        raise Unavailable(
            "registry", ErrorCode.NOT_VERIFIED, f"{subject} is not in the registry after its upload"
        )


def _distinct(blobs: Iterable[Descriptor]) -> list[Descriptor]:
    return list({blob.digest: blob for blob in blobs}.values())


def _has_urls(document: Document) -> bool:
    """Whether a registry may refuse a manifest because some layers of it have URLs."""
    return isinstance(document, Manifest) and any(layer.urls for layer in document.layers)
