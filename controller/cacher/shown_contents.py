"""Lets the source of a job show what a copy consists of, before the job is bound to a copy that exists.

To know the digest of some content does not prove that a tenant may read the content; `reconcile.trust` says
what does.
"""

import structlog

from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from reconcile.copying_ports import ResolvedImage, Signatures
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.records import CachedImage, CacheJob
from reconcile.references import Digest
from reconcile.trust import ContentProof, ContentStanding, Reader

log = structlog.get_logger(scope="cacher")


class ShownContents:
    """Asks the sources of jobs for content, and records which content each of them has shown."""

    def __init__(self, dependencies: CacherDependencies, credentials: JobCredentials) -> None:
        self._engine, self._cache = dependencies.engine, dependencies.cache
        self._proofs, self._sharing = dependencies.proofs, dependencies.sharing
        self._clock, self._metrics = dependencies.process.clock, dependencies.process.metrics
        self._credentials = credentials

    def reader(self, job: CacheJob) -> Reader:
        """Return the reader of a job's source: its trust domain and its login."""
        return self._sharing.reader(job.source, job.organization, self._credentials.find(job.job_id))

    def proof(self, job: CacheJob, digest: Digest) -> ContentProof | None:
        """Make the proof that a finished job saves; None for a move or a repair, which save none."""
        if job.is_move or job.is_repair:
            return None
        return ContentProof(digest, self.reader(job), job.source.repository, self._clock())

    async def is_proven(self, digest: Digest, reader: Reader) -> bool:
        """Whether a reader's source need not show some content, since it was read there before."""
        return (await self._proofs.find_shown(digest, reader)).standing is ContentStanding.PROVEN

    async def show(self, job: CacheJob, resolved: ResolvedImage) -> None:
        """Let a job's source show an image of which a copy exists, made from another source.

        For a copy from another trust domain, the source must serve every byte; that is saved at once, so that
        an interrupted job does not read the bytes again. Within a trust domain, an answer for the image's
        manifest is enough. A source gave this answer already when it resolved the reference, unless the
        reference names an index.

        Raises:
            DockerCacheError: The source does not serve the image.
        """
        reader, credentials = self.reader(job), self._credentials.find(job.job_id)
        digest = resolved.platform_digest
        shown = await self._proofs.find_shown(digest, reader)
        if shown.standing is ContentStanding.FOREIGN:
            size = await self._engine.show(resolved, credentials, reader)
            self._metrics.jobs.shown_bytes.inc(size)
            log.debug("verified-access-to-content", job=job.job_id, source_image=str(job.source), bytes=size)
            await self._proofs.save_proof(ContentProof(digest, reader, "", self._clock()))
        elif resolved.root_digest != digest:
            await self._engine.resolve(job.source.at(digest), credentials)

    async def add_signatures(self, job: CacheJob, known: CachedImage) -> None:
        """Add to a copy the signatures that a job's source has, unless it has given them before.

        Raises:
            Unavailable: The source does not answer.
        """
        reader, repository = self.reader(job), job.source.repository
        shown = await self._proofs.find_shown(known.platform_digest, reader)
        if repository == known.source.repository or repository in shown.sources:
            return
        image = ResolvedImage(job.source, known.root_digest, known.digest)
        target, credentials = self._cache.image(known.cache_guid), self._credentials.find(job.job_id)
        try:
            signatures = await self._engine.copy_signatures(image, target, credentials, reader)
        except Unavailable:
            raise
        except DockerCacheError as error:  # the copy itself is as it should be
            log.debug("left-signatures", job=job.job_id, source_image=str(job.source), reason=str(error))
            return
        if signatures is Signatures.COPIED:
            log.debug("added-signatures", job=job.job_id, source_image=str(job.source))
