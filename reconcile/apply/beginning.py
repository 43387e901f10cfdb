"""Begins a migration once its copy is found in the private registry, and reads back a copy that needs it."""

from dataclasses import replace

from reconcile.actions import BeginMigration, VerifyImage
from reconcile.apply.action_ports import ActionPorts, Outcome
from reconcile.apply.journal_rows import enter, note_failure
from reconcile.apply.replacing import remove_original
from reconcile.copy_choice import request_of_lrp
from reconcile.errors import DockerCacheError
from reconcile.facts import Facts
from reconcile.instances import failure_of_pull, is_any_running
from reconcile.lrps import DesiredLrp, ProcessGuid, Pull
from reconcile.migrations import Migration, OriginalSource, Phase, Strategy
from reconcile.observed import Observed
from reconcile.reasons import Reason
from reconcile.records import CachedImage
from reconcile.references import CacheGuid

VERIFIED_LATER = 5.0
"""Seconds until a copy that could not be read back now is tried again."""


async def verify_copy(action: VerifyImage, observed: Observed, ports: ActionPorts) -> Outcome:
    """Read a copy back, and request it again if it is corrupt, so that what is missing is sent."""
    is_ok = await ports.verifier.verify(action.image)
    if is_ok is None:
        return Outcome(Reason.COPY_NEEDS_VERIFICATION, "it is being read back", retry_after=VERIFIED_LATER)
    if is_ok:
        return Outcome(Reason.COPY_VERIFIED, retry_after=0.0)
    await _request_again(action.lrp.process_guid, action.image, observed, ports)
    corrupt = ports.cache.image(action.image.cache_guid)
    return Outcome(Reason.COPY_CORRUPT, f"{corrupt} is corrupt: requested what is missing")


async def _request_again(
    guid: ProcessGuid, image: CachedImage, observed: Observed, ports: ActionPorts
) -> Outcome:
    if observed.lrp is not None:
        reason = Reason.COPY_VANISHED
        # What runs stays on the same content, wherever its tag is now.
        content = image.platform_digest if is_any_running(observed.instances) else None
        if observed.former_copy is not None:
            reason, content = Reason.COPY_IN_FORMER_REGISTRY, image.platform_digest
        request = request_of_lrp(observed, observed.lrp, reason=reason, content=content)
        if observed.current_copy is not None:  # the LRP has the private registry's login, not its source's
            known = observed.original_source
            request = replace(
                request, source=image.source, credentials=None if known is None else known.credentials
            )
        await ports.requests.request(request)
    await ports.journal.delete_migration(guid)
    vanished = f"{ports.cache.image(image.cache_guid)} vanished from the private registry"
    return Outcome(Reason.WAITING_FOR_COPY, vanished)


async def begin(action: BeginMigration, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Write the first row, look for the copy, save the original source, and take the first step."""
    guid, image = action.lrp.process_guid, action.image
    cache_guid = _cache_guid_of(action, observed)
    row = Migration(
        process_guid=guid,
        cache_guid=cache_guid,
        phase=Phase.PREPARED,
        original=action.lrp,
        rounds=action.rounds,
        run_id=observed.run_id,
        started_at=observed.now,
        goal=action.goal,
        strategy=action.strategy,
        entered_at=observed.now,
        ended=action.ended,
        detail=action.detail,
        way_back=_way_back_of(action, observed),
        renews_login=action.renews_login,
    )
    await ports.journal.save_migration(row)
    if action.ended is not None:
        await note_failure(row, failure_of_pull(observed.instances), observed, ports)
    if image is not None:
        try:
            has_copy = await _has_copy(image, ports)
        except DockerCacheError:
            await ports.journal.delete_migration(guid)  # nothing has begun
            raise
        if not has_copy:
            return await _request_again(guid, image, observed, ports)
        if not action.renews_login:  # otherwise its source is known already, and is not the copy
            await _save_source(action.lrp, cache_guid, observed, ports)
    elif observed.former_copy is not None and observed.original_source is not None:
        await ports.original_sources.save_original_source(observed.original_source)
    if action.strategy is Strategy.BRIDGE:
        return await enter(replace(row, phase=Phase.BRIDGING), ports)
    return await remove_original(row, observed, facts, ports)


async def _save_source(
    lrp: DesiredLrp, cache_guid: CacheGuid, observed: Observed, ports: ActionPorts
) -> None:
    """Save what an LRP runs from as its original source; one on a former copy keeps the source it has."""
    login = lrp.credentials
    source = OriginalSource(lrp.process_guid, cache_guid, lrp.rootfs, login is not None, login)
    if observed.former_copy is not None:
        if observed.original_source is None:  # its app staged nothing, and anybody may pull the copy
            return
        source = replace(observed.original_source, cache_guid=cache_guid)
    await ports.original_sources.save_original_source(source)


def _way_back_of(action: BeginMigration, observed: Observed) -> Pull | None:
    source = observed.original_source
    if action.ended is None or source is None:
        return None
    return Pull(source.rootfs, source.credentials)


async def _has_copy(image: CachedImage, ports: ActionPorts) -> bool:
    """Whether a copy is still recorded, now that the row shows that it is used, and still in the registry."""
    if await ports.images.find_image(image.cache_guid) is None:  # an operator evicts it now
        return False
    return await ports.engine.is_present(ports.cache.image(image.cache_guid), image.digest)


def _cache_guid_of(action: BeginMigration, observed: Observed) -> CacheGuid:
    if action.image is not None:
        return action.image.cache_guid
    if observed.original_source is None:
        raise AssertionError("the original source is known before an LRP is restored to it")
    return observed.original_source.cache_guid
