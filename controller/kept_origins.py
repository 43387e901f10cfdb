"""Saves what an LRP came from as soon as a pass finds it, so that it can go back there.

That is the binding of the staging that it is of, and the source of one that its owner desired from its copy.
"""

from contextlib import suppress
from dataclasses import replace

import structlog

from reconcile.bindings import binding_to_keep
from reconcile.errors import NotFound
from reconcile.live_facts import PassSources
from reconcile.observed import Observed

log = structlog.get_logger(scope="reconciler")


async def keep_binding(observed: Observed, sources: PassSources) -> None:
    """Save the binding that an LRP has now as its own, so that it stands as long as the LRP exists."""
    binding = binding_to_keep(observed)
    if binding is not None:
        with suppress(NotFound):  # its job was dropped since: a later pass finds another binding
            await sources.bindings.put_binding(binding)


async def keep_source(observed: Observed, sources: PassSources) -> Observed:
    """Save the source of an LRP that Cloud Controller desired from its copy, before its login is changed.

    What is read back is what an LRP can go back to: without a journal key its login is not kept.
    """
    source = observed.original_source
    if source is None or not observed.is_source_found:
        return observed
    known = await sources.original_sources.find_original_source(source.process_guid)
    is_known = known is not None and known.cache_guid == source.cache_guid
    if is_known and not sources.journal.is_durable:  # its login was not kept, and would not be now
        return replace(observed, original_source=known, is_source_found=False)
    await sources.original_sources.save_original_source(source)
    log.debug("found-source", process_guid=source.process_guid, cache_guid=source.cache_guid)
    saved = await sources.original_sources.find_original_source(source.process_guid)
    return replace(observed, original_source=saved, is_source_found=False)
