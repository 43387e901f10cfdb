"""Forgets the bindings and jobs that nothing refers to, within a transaction.

A binding is needed while its job is open, and while its app has an LRP, since that may be desired from the
source again. Of an app that stages ever new images, those of the newest are kept.

Reservations and attempts to copy are never forgotten. A GUID is reserved in the transaction that precedes its
first upload, so the private registry may hold something under each, also where no copy was ever finished; and
the droplet of a stopped app, which no listing shows, may name one whose copy was deleted: with the same GUID
the app starts again when its image is copied again. Who has sent something there decides whether it may be
relied on. Both are rows of some hundred bytes for each distinct content.
"""

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select

from controller.store.tables import bindings, images, index_contents, jobs, lrps, reservations
from reconcile.lrps import AppGuid
from reconcile.records import JobState, is_of_lrp, lrp_of_requester

MOST_OF_APP = 100
"""Maximum number of bindings of one app that are kept, besides those of its LRPs and of open jobs."""

_SLACK = 20
"""Number of bindings above `MOST_OF_APP` that are tolerated before the surplus is looked for."""

_ENDED = (JobState.CACHED, JobState.FAILED)
_IS_ENDED = exists().where(jobs.c.job_id == bindings.c.job_id, jobs.c.state.in_(_ENDED))


def forget_surplus(connection: Connection, app_guid: AppGuid) -> None:
    """Forget the oldest bindings of an app that has too many, and the jobs that lose their last one by this.

    What is no app's, such as a repair, has no such limit.
    """
    of_app = bindings.c.app_guid == app_guid
    count = connection.scalar(select(func.count()).where(of_app)) or 0
    if not app_guid or count <= MOST_OF_APP + _SLACK:
        return
    newest_first = (bindings.c.staged_at.desc(), bindings.c.number.desc())
    ended = select(bindings.c.requester, bindings.c.job_id).where(of_app, _IS_ENDED).order_by(*newest_first)
    known = set(connection.scalars(select(lrps.c.process_guid).where(lrps.c.app_guid == app_guid)))
    surplus = [
        (requester, job_id)
        for requester, job_id in connection.execute(ended)
        if not (is_of_lrp(requester) and lrp_of_requester(requester) in known)
    ][MOST_OF_APP:]
    for requester, job_id in surplus:
        connection.execute(delete(bindings).where(bindings.c.requester == requester))
        connection.execute(
            delete(jobs).where(jobs.c.job_id == job_id, jobs.c.state.in_(_ENDED), ~_has_binding())
        )


def forget_old(connection: Connection, before: float) -> int:
    """Forget what ended before some time and is of no app that has an LRP; return the number of bindings.

    What indexes lead to of which there is no copy is forgotten too.
    """
    has_old_job = exists().where(
        jobs.c.job_id == bindings.c.job_id, jobs.c.state.in_(_ENDED), jobs.c.updated_at < before
    )
    has_lrp = exists().where(lrps.c.app_guid == bindings.c.app_guid) & (bindings.c.app_guid != "")
    forgotten = connection.execute(delete(bindings).where(has_old_job, ~has_lrp)).rowcount
    connection.execute(
        delete(jobs).where(jobs.c.state.in_(_ENDED), jobs.c.updated_at < before, ~_has_binding())
    )
    # An index without a copy, which is of a failed job or of one under way, is read again where it is needed.
    has_copy = exists().where(
        reservations.c.platform_digest == index_contents.c.platform_digest,
        images.c.cache_guid == reservations.c.cache_guid,
    )
    connection.execute(delete(index_contents).where(~has_copy))
    return forgotten


def _has_binding() -> ColumnElement[bool]:
    return exists().where(bindings.c.job_id == jobs.c.job_id)
