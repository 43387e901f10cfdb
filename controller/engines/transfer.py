"""Brings a planned image from one repository into another: blobs, then manifests, then the proof."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from controller.engines.blob_transfer import BlobTransfer, Copying
from controller.engines.copy_plan import CopyPlan, Verify, stored_digest
from controller.engines.parallel import in_parallel
from controller.registry.findings import BlobsMissing
from controller.registry.manifests import Descriptor, Document, Manifest
from reconcile.errors import Denied, Invalid, NotFound, Unavailable
from reconcile.images import Digest
from reconcile.ports import CopiedImage, TargetState

_MOST_PUTS = 3


class Transfer:
    """One image on its way; its methods block."""

    def __init__(self, copying: Copying, state: TargetState = TargetState.UNKNOWN) -> None:
        self._copying, self._target, self._state = copying, copying.target, state
        self._blobs = BlobTransfer(copying)
        self._brought: list[Descriptor] = []
        self._is_listed = False

    @property
    def is_listed(self) -> bool:
        """Whether the registry lists the root among what refers to its subject."""
        return self._is_listed

    def run(self, plan: CopyPlan, version: str, holders: Mapping[Digest, str]) -> CopiedImage:
        """Copy what is missing, give the root its tag, and read it all back.

        Args:
            plan: What to copy.
            version: Tag or digest of the root; written last.
            holders: Blob to a repository of the private registry that holds it.
        """
        meter, blobs = self._copying.meter, plan.own_blobs
        meter.expect(plan.blob_bytes)
        is_tagged = self._state is TargetState.UNKNOWN and self._is_tagged(plan.root, version)

        def bring(blob: Descriptor) -> None:
            holder = holders.get(blob.digest)
            # A mount that is granted tells as much as an answer to a question would.
            may_be_there = self._state is TargetState.UNKNOWN and (is_tagged or holder is None)
            if self._blobs.bring(blob, holder, may_be_there=may_be_there):
                self._brought.append(blob)

        self._all(bring, blobs)
        if self._copying.limits.verify is Verify.FULL:
            self._all(self._blobs.read_back, blobs)
        brought = _distinct(self._brought)
        proven, count = list[Descriptor](), len(self._brought)

        def prove(blob: Descriptor) -> None:
            with suppress(Unavailable):  # the manifest's refusal says which blobs have to be sent again
                self._blobs.check(blob)
                proven.append(blob)

        # All blobs have been sent: they are asked for while the manifests are written.
        proofs = [partial(prove, blob) for blob in brought]
        is_needed = bool(brought) or not is_tagged
        self._run_all([partial(self._push_all, plan, version), *proofs] if is_needed else proofs)
        sent_again = self._brought[count:]
        left = _distinct([*sent_again, *(blob for blob in brought if blob not in proven)])
        self._run_all([*self._checks(plan, version), *(partial(self._blobs.check, blob) for blob in left)])
        held = {blob.digest for blob in (*blobs, *self._brought)}
        return CopiedImage(
            digest=stored_digest(plan.root),
            size=plan.size,
            transferred=meter.read().moved,
            blobs=tuple(blob.digest for blob in plan.blobs if blob.digest in held),
            has_zstd_layers=plan.has_zstd_layers,
        )

    def _all(self, function: Callable[[Descriptor], None], blobs: Iterable[Descriptor]) -> None:
        largest_first = sorted(blobs, key=lambda blob: -blob.size)
        in_parallel(
            function,
            largest_first,
            most=self._copying.limits.blobs_at_a_time,
            cancellation=self._copying.cancellation,
            pool=self._copying.workers,
        )

    def _is_tagged(self, root: Document, version: str) -> bool:
        try:
            return self._target.head_manifest(version).digest == stored_digest(root)
        except (NotFound, Denied, Invalid):
            return False  # writing will tell

    def _push(self, document: Document, version: str, plan: CopyPlan) -> None:
        for attempt in range(_MOST_PUTS):
            try:
                self._is_listed = self._target.push_manifest(document, version)
            except BlobsMissing as error:
                again = [blob for blob in plan.blobs if blob.digest in error.digests]
                self._check_foreign(document, again, error)
                if attempt == _MOST_PUTS - 1 or not again:
                    raise
                self._copying.meter.retry(len(again))
                self._all(self._blobs.upload, again)
                self._brought.extend(again)
            except Unavailable as error:
                if _is_foreign(document):
                    raise Invalid(error.system, "foreign-layer", error.detail) from error
                raise
            else:
                return

    def _check_foreign(self, document: Document, missing: list[Descriptor], error: BlobsMissing) -> None:
        """Refuse to fetch what its manifest says lies elsewhere, unless that is allowed and may help."""
        may_help = self._copying.limits.copy_foreign_layers and not all(
            each in self._brought for each in missing
        )
        if any(each.urls for each in missing) and not may_help:
            detail = f"{error.detail} (the private registry does not take foreign layers as they are)"
            raise Invalid(error.system, "foreign-layer", detail) from error
        if not missing and _is_foreign(document):
            raise Invalid(error.system, "foreign-layer", error.detail) from error

    def _push_all(self, plan: CopyPlan, version: str) -> None:
        for document in plan.documents[:-1]:
            self._push(document, str(document.digest), plan)
        self._push(plan.root, version, plan)

    def _checks(self, plan: CopyPlan, version: str) -> list[Callable[[], None]]:
        """List how to read back every manifest: the root as cells will ask for it, the others by digest."""
        return [
            *(partial(self._check, each, str(stored_digest(each))) for each in plan.documents[:-1]),
            partial(self._check, plan.root, version),
        ]

    def _run_all(self, steps: Sequence[Callable[[], None]]) -> None:
        in_parallel(
            lambda step: step(),
            steps,
            most=self._copying.limits.blobs_at_a_time,
            cancellation=self._copying.cancellation,
            pool=self._copying.workers,
        )

    def _check(self, document: Document, version: str) -> None:
        if self._target.fetch_manifest(version).raw != document.raw:
            raise Invalid("registry", "not-verified", f"{self._target.session.subject(version)} differs")


def _distinct(blobs: Iterable[Descriptor]) -> list[Descriptor]:
    return list({blob.digest: blob for blob in blobs}.values())


def _is_foreign(document: Document) -> bool:
    return isinstance(document, Manifest) and any(layer.urls for layer in document.layers)
