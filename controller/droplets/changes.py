"""Carries out what was decided for a droplet: each change is recorded before it is sent.

A request whose answer was lost leaves the record in the phase of the change, and the droplet itself says at
the next look whether it took effect.
"""

from dataclasses import replace
from typing import assert_never

import structlog

from controller.droplets.dependencies import DropletDependencies
from controller.droplets.index import DropletIndex
from controller.droplets.outcome import DropletOutcome
from reconcile.copying_ports import CheckDepth
from reconcile.droplet_actions import (
    DropletAction,
    ForgetDroplet,
    Leave,
    ObservedDroplet,
    PatchDroplet,
    RequestCopy,
    RestoreDroplet,
    SaveDropletRecord,
    VerifyDropletCopy,
)
from reconcile.droplet_outcomes import after_answer, after_failure, after_leaving
from reconcile.droplet_ports import CloudControllerApi
from reconcile.droplets import DropletPhase, DropletRecord
from reconcile.errors import DockerCacheError, LeaseLost, Unavailable
from reconcile.reasons import Reason
from reconcile.records import CachedImage

log = structlog.get_logger(scope="droplets")

LOOK_AGAIN = 20.0
"""Seconds after which a droplet is looked at again whose copy was not in the private registry."""


class DropletChanges:
    """Carries out actions.

    Args:
        dependencies: What it changes.
        index: Is told of each record that is saved.
    """

    def __init__(self, dependencies: DropletDependencies, index: DropletIndex) -> None:
        self._dependencies, self._index = dependencies, index
        self._clock = dependencies.process.clock
        self._sent = dependencies.process.metrics.droplets.changes

    async def apply(
        self, action: DropletAction, observed: ObservedDroplet, api: CloudControllerApi
    ) -> DropletOutcome:
        """Carry out one action.

        Raises:
            DockerCacheError: Another system does not answer; what was sent is recorded.
        """
        match action:
            case Leave():
                return await self.leave(observed, action)
            case ForgetDroplet():
                await self._dependencies.records.forget_droplets((observed.guid,))
                self._index.remove((observed.guid,))
                return DropletOutcome(action.reason)
            case RequestCopy():
                job = await self._dependencies.requests.request(action.request)
                log.debug("requested-copy", droplet_guid=observed.guid, job=job.job_id, reason=action.reason)
                return await self.leave(observed, Leave(action.reason))
            case VerifyDropletCopy(image):
                return await self._verify(image, observed)
            case SaveDropletRecord():
                await self.save(action.record)
                return DropletOutcome(action.reason, action.record.detail, record=action.record)
            case PatchDroplet():
                return await self._patch(action, observed, api)
            case RestoreDroplet():
                self._dependencies.check_active()
                await self.save(action.record)
                return await self._send(action.record, action.text, api)
            case _:
                assert_never(action)

    async def leave(self, observed: ObservedDroplet, leave: Leave) -> DropletOutcome:
        """Record why a droplet is left as it is, if that has changed."""
        record = after_leaving(observed, leave, self._dependencies.rules)
        if record is not None:
            await self.save(record)
        return DropletOutcome(leave.reason, leave.detail, leave.retry_after, record or observed.record)

    async def save(self, record: DropletRecord) -> None:
        """Save a record."""
        await self._dependencies.records.save_droplet(record)
        self._index.put_record(record)

    async def _verify(self, image: CachedImage, observed: ObservedDroplet) -> DropletOutcome:
        is_whole = await self._dependencies.verifier.verify(image)
        if is_whole:
            return DropletOutcome(Reason.COPY_VERIFIED, retry_after=0.0, record=observed.record)
        if is_whole is None:
            reads = Leave(Reason.COPY_NEEDS_VERIFICATION, "it is being read back", LOOK_AGAIN)
            return await self.leave(observed, reads)
        self._dependencies.presence.suspect(image.cache_guid, CheckDepth.BYTES)
        return await self.leave(observed, Leave(Reason.COPY_INCOMPLETE, "it is corrupt", LOOK_AGAIN))

    async def _patch(
        self, action: PatchDroplet, observed: ObservedDroplet, api: CloudControllerApi
    ) -> DropletOutcome:
        dependencies, image = self._dependencies, action.image
        dependencies.check_active()
        target = dependencies.rules.cache.image(image.cache_guid)
        missing = await dependencies.registry.find_missing(target, image.digest, CheckDepth.MANIFEST)
        if missing:
            dependencies.presence.suspect(image.cache_guid, CheckDepth.BYTES)
            return await self.leave(observed, Leave(Reason.COPY_INCOMPLETE, missing, LOOK_AGAIN))
        await self.save(action.record)
        # From now on whoever deletes copies sees that a droplet may name this one.
        if not await self._is_kept(image):
            await self._take_back(action.record, observed)
            return DropletOutcome(Reason.COPY_RECORD_MISSING, retry_after=0.0, record=observed.record)
        return await self._send(action.record, action.text, api)

    async def _is_kept(self, image: CachedImage) -> bool:
        """Whether nobody has deleted a copy, or found it incomplete, since it was chosen."""
        now = await self._dependencies.images.find_image(image.cache_guid)
        return now is not None and not now.missing_since

    async def _take_back(self, record: DropletRecord, observed: ObservedDroplet) -> None:
        """Record that nothing was sent after all."""
        before = observed.record
        if before is None:
            before = replace(
                record, phase=DropletPhase.LEFT, reason=Reason.COPY_RECORD_MISSING, cache_guid=None
            )
            before = replace(before, registry="", target="", attempts=0, rounds=0)
        await self.save(before)

    async def _send(self, record: DropletRecord, text: str, api: CloudControllerApi) -> DropletOutcome:
        try:
            answer = await api.update_image(record.droplet_guid, text)
        except LeaseLost:
            raise
        except DockerCacheError as error:
            unanswered = isinstance(error, Unavailable)
            self._sent.labels(outcome="unanswered" if unanswered else "refused").inc()
            failed = after_failure(record, error, self._clock())
            await self.save(failed)
            wait = max(0.0, failed.not_before - self._clock())
            return DropletOutcome(failed.reason, failed.detail, wait, failed)
        changed = after_answer(record, answer, self._clock())
        await self.save(changed)
        if changed.phase is record.phase:  # somebody else has written it at the same time, or nobody has
            wait = max(0.0, changed.not_before - self._clock())
            return DropletOutcome(changed.reason, changed.detail, wait, changed)
        change = "restored" if changed.phase is DropletPhase.RESTORED else "patched"
        self._sent.labels(outcome=change).inc()
        return DropletOutcome(changed.reason, changed.detail, None, changed, change)
