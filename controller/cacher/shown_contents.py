"""Lets the source of a job show what a copy consists of, before the job is bound to a copy that exists.

To know a digest is no proof of possession; `reconcile.trust` decides what is.
"""

import structlog

from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from reconcile.copying_ports import ResolvedImage, Signatures
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.records import CachedImage, CacheJob
from reconcile.references import Digest
from reconcile.trust import ContentProof, Reader, Standing

log = structlog.get_logger(scope="cacher")


class ShownContents:
    """What the sources of jobs have shown."""

    def __init__(self, dependencies: CacherDependencies, credentials: JobCredentials) -> None:
        self._engine, self._cache = dependencies.engine, dependencies.cache
        self._proofs, self._sharing = dependencies.proofs, dependencies.sharing
        self._clock, self._metrics = dependencies.process.clock, dependencies.process.metrics
        self._credentials = credentials

    def reader(self, job: CacheJob) -> Reader:
        """Name who reads a job's source."""
        return self._sharing.reader(job.source, job.organization, self._credentials.find(job.job_id))

    def proof(self, job: CacheJob, digest: Digest) -> ContentProof | None:
        """Return what a job's source has shown when it ends; None for a job that does not ask its source."""
        if job.is_move or job.is_repair:
            return None
        return ContentProof(digest, self.reader(job), job.source.repository, self._clock())

    async def is_proven(self, digest: Digest, reader: Reader) -> bool:
        """Whether a source need not show some content."""
        return (await self._proofs.find_shown(digest, reader)).standing is Standing.PROVEN

    async def show(self, job: CacheJob, resolved: ResolvedImage) -> None:
        """Let a job's source show what another one has shown before.

        Within a trust domain its answer for the manifest is enough, which it gave already unless it named an
        index. What was read is noted at once, so that it is not read again when the job is interrupted.

        Raises:
            DockerCacheError: It does not serve what it names.
        """
        reader, credentials = self.reader(job), self._credentials.find(job.job_id)
        digest = resolved.platform_digest
        shown = await self._proofs.find_shown(digest, reader)
        if shown.standing is Standing.FOREIGN:
            size = await self._engine.show(resolved, credentials, reader)
            self._metrics.jobs.shown_bytes.inc(size)
            log.debug("content-shown", job=job.job_id, source_image=str(job.source), bytes=size)
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
