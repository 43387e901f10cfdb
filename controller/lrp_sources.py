"""Saves the binding and the original source of an LRP as soon as a pass knows them.

The binding names the staging that the LRP belongs to. The original source is the image that the LRP is
restored to; where Cloud Controller has desired the LRP from its copy, its droplet has led to it.
"""

from contextlib import suppress
from dataclasses import replace

import structlog

from reconcile.bindings import binding_to_keep
from reconcile.errors import NotFound
from reconcile.live_facts import PassSources
from reconcile.observed import Observed

log = structlog.get_logger(scope="reconciler")


async def save_binding(observed: Observed, sources: PassSources) -> None:
    """Save the binding that an LRP has now as its own, so that it stands as long as the LRP exists."""
    binding = binding_to_keep(observed)
    if binding is not None:
        with suppress(NotFound):  # its job was dropped since: a later pass finds another binding
            await sources.bindings.put_binding(binding)


async def save_original_source(observed: Observed, sources: PassSources) -> Observed:
    """Save the source of an LRP that Cloud Controller desired from its copy, before its login is changed.

    Returns:
        The observation with the source as it is read back, which is what the LRP can go back to: without a
        journal key its login is not kept.
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
