"""Finds what an LRP goes back to that Cloud Controller desired from a droplet that names its copy.

This program has not migrated such an LRP, so nothing was saved of it. The record of the droplet has the
original text, and the LRP itself carries the login for that: no API changes the login in a droplet. A
process GUID says nothing about the droplet, since each deployment makes new processes: the app does.

Only a record whose droplet this program changed counts. Whoever else names a copy in the private registry is
given no login that reads the images of others.
Source: cloud_controller_ng lib/cloud_controller/diego/docker/desired_lrp_builder.rb: the image is that of the
    revision's droplet, the login that of the app's current one.
"""

from collections.abc import Sequence
from dataclasses import replace

from reconcile.droplets import DropletPhase, DropletRecord
from reconcile.errors import Invalid
from reconcile.facts import Facts, PassContext
from reconcile.lrps import Credentials, DesiredLrp
from reconcile.migrations import OriginalSource
from reconcile.observed import Observed
from reconcile.references import CacheGuid, rootfs_from_image_text


async def observe_droplet_source(
    observed: Observed, lrp: DesiredLrp, cache_guid: CacheGuid, facts: Facts, context: PassContext
) -> Observed:
    """Observe what an LRP that runs from a copy goes back to, if its app's droplet names that copy.

    Droplets are not asked for when the source is known and the login is the configured one.
    """
    known = observed.original_source
    is_known = known is not None and known.cache_guid == cache_guid
    if not lrp.app_guid or (is_known and lrp.credentials == context.pull_credentials):
        return observed
    records = await facts.records.list_droplets_of_app(lrp.app_guid)
    found = source_of_droplet(lrp, cache_guid, records, context.pull_credentials)
    if found is None:
        return observed
    if _is_with_source_login(found, lrp, context):
        can_pull = _can_pull(lrp, context)
        observed = replace(observed, has_source_login=True, can_pull_with_own_login=can_pull)
    is_known = is_known and not (_is_without_login(known) and _is_login_of(lrp, records))
    return observed if is_known else replace(observed, original_source=found, is_source_found=True)


def source_of_droplet(
    lrp: DesiredLrp,
    cache_guid: CacheGuid,
    records: Sequence[DropletRecord],
    cells: Credentials | None,
) -> OriginalSource | None:
    """Say what an LRP was staged from whose droplet names a copy; None when no record knows.

    Args:
        lrp: It runs from the copy.
        cache_guid: The copy.
        records: The droplets of its app, the newest first.
        cells: The login that cells have at the private registry.
    """
    candidates = [each for each in records if _names_copy(each, cache_guid)]
    login = lrp.credentials
    username = "" if login is None else login.username
    candidates.sort(key=lambda each: each.username != username)  # two tags may have led to one copy
    for record in candidates:
        try:
            rootfs = rootfs_from_image_text(record.original)
        except Invalid:
            continue  # Cloud Controller would refuse it
        own = None if _is_of_cells(login, records, cells) else login
        needs_login = own is not None or bool(record.username)
        return OriginalSource(
            lrp.process_guid, cache_guid, rootfs, needs_credentials=needs_login, credentials=own
        )
    return None


def _names_copy(record: DropletRecord, cache_guid: CacheGuid) -> bool:
    """Whether this program made a droplet name a copy, now or before."""
    was_written = record.phase is not DropletPhase.LEFT or record.rounds > 0
    return record.cache_guid == cache_guid and was_written


def _is_of_cells(
    login: Credentials | None, records: Sequence[DropletRecord], cells: Credentials | None
) -> bool:
    """Whether an LRP's login may be one that this program gave it, which never goes to another registry.

    The program may have done so before the database was lost, when the login of cells was another one. After
    a rollback, the login of the app's current droplet comes with the image of an earlier one.
    """
    if login is None or login == cells:
        return login is not None
    usernames = {each.username for each in records} - {""}
    if usernames:
        return login.username not in usernames
    return cells is not None and login.username == cells.username


def _is_without_login(known: OriginalSource | None) -> bool:
    """Whether a source is saved without a login, such as one that `rebuild` has found beside the copy."""
    return known is not None and known.credentials is None


def _is_login_of(lrp: DesiredLrp, records: Sequence[DropletRecord]) -> bool:
    """Whether the login of an LRP is one of a source of its app, without any doubt."""
    return lrp.credentials is not None and lrp.credentials.username in {each.username for each in records}


def _can_pull(lrp: DesiredLrp, context: PassContext) -> bool:
    """Whether cells are known to pull copies with the login that an LRP has."""
    username = "" if lrp.credentials is None else lrp.credentials.username
    pulls = context.droplet_pulls
    return pulls is not None and pulls.why_not(lrp.placement_tags, username) is None


def _is_with_source_login(found: OriginalSource, lrp: DesiredLrp, context: PassContext) -> bool:
    """Whether an LRP has what Cloud Controller gives it: its source's login, or none for a public one."""
    return lrp.credentials != context.pull_credentials and lrp.credentials == found.credentials
