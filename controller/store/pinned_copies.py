"""Finds the copy of pinned content that an app may use although its source is not asked.

A digest names content, and to know a digest is no proof that somebody may read it. An app may use a copy of
what was read in the trust domain of its source, without a login or with the app's own, and one that this app
has been given from the same registry before.
"""

from sqlalchemy import Connection, exists, or_, select, union

from controller.store import cached_images
from controller.store.tables import bindings, content_proofs, images, index_contents, jobs, reservations
from reconcile.lrps import AppGuid
from reconcile.records import CachedImage, JobState
from reconcile.references import CacheGuid, ImageReference
from reconcile.trust import Reader


def find(
    connection: Connection, app_guid: AppGuid, source: ImageReference, reader: Reader, platforms: str
) -> CachedImage | None:
    """Find the finished copy of a reference with a digest; None when there is none, or more than one.

    There is more than one when the digest is that of an index, and images of several platforms were copied.
    """
    if source.digest is None:
        return None
    digest = str(source.digest)
    # Each of these is found in an index of its own, which one condition with "or" would not be.
    in_index = (
        select(reservations.c.cache_guid)
        .join(index_contents, index_contents.c.platform_digest == reservations.c.platform_digest)
        .where(index_contents.c.root_digest == digest, index_contents.c.platforms == platforms)
    )
    of_digest = union(
        select(images.c.cache_guid).where(images.c.root_digest == digest),
        select(reservations.c.cache_guid).where(reservations.c.platform_digest == digest),
        in_index,
    ).subquery()
    is_proven = exists().where(
        content_proofs.c.platform_digest == reservations.c.platform_digest,
        content_proofs.c.domain == reader.domain,
        content_proofs.c.login.in_(sorted(reader.accepted_logins)),
    )
    is_of_app = exists().where(
        jobs.c.cache_guid == images.c.cache_guid,
        jobs.c.state == JobState.CACHED,
        jobs.c.source.startswith(f"{source.domain}/", autoescape=True),
        bindings.c.job_id == jobs.c.job_id,
        bindings.c.app_guid == app_guid,
        bindings.c.app_guid
        != "",  # that of operators and repairs, whom anybody without one would be taken for
    )
    found = connection.scalars(
        select(images.c.cache_guid)
        .join_from(images, reservations)
        .join(of_digest, of_digest.c.cache_guid == images.c.cache_guid)
        .where(or_(is_of_app, is_proven))
        .limit(2)
    ).all()
    return cached_images.find(connection, CacheGuid(found[0])) if len(found) == 1 else None
