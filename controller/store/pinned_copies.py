"""Finds the copy of pinned content that an app may use although its source is not asked.

A digest names content, and to know a digest is no proof that somebody may read it. An app may use a copy that
it has used before, and one whose content was read without a login from the registry that the app names.
"""

from sqlalchemy import Connection, exists, or_, select

from controller.store import cached_images
from controller.store.tables import bindings, images, jobs, reservations
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.records import CachedImage, JobState
from reconcile.references import CacheGuid, ImageReference


def find(connection: Connection, app_guid: AppGuid, source: ImageReference) -> CachedImage | None:
    """Find the finished copy of a reference with a digest; None when there is none, or more than one.

    There is more than one when the digest is that of an index, and images of several platforms were copied.
    """
    if source.digest is None:
        return None
    digest = str(source.digest)
    of_app = exists().where(bindings.c.job_id == jobs.c.job_id, bindings.c.app_guid == app_guid)
    # A job that repaired or moved a copy says nothing about who may read its source.
    is_public = (
        ~jobs.c.needs_credentials
        & jobs.c.reason.not_in([Reason.COPY_IN_FORMER_REGISTRY, Reason.REPAIRING_COPY])
        & jobs.c.source.startswith(f"{source.domain}/", autoescape=True)
    )
    found = connection.scalars(
        select(images.c.cache_guid)
        .distinct()
        .join_from(images, reservations)
        .join(jobs, jobs.c.cache_guid == images.c.cache_guid)
        .where(
            or_(images.c.root_digest == digest, reservations.c.platform_digest == digest),
            jobs.c.state == JobState.CACHED,
            or_(of_app, is_public),
        )
        .limit(2)
    ).all()
    return cached_images.find(connection, CacheGuid(found[0])) if len(found) == 1 else None
