"""Updates the login of an LRP in place, and reads it back."""

from reconcile.actions import UpdateLogin
from reconcile.apply.action_ports import ActionPorts, Outcome
from reconcile.apply.retiring import retire_refused
from reconcile.errors import NotFound
from reconcile.instances import is_any_running
from reconcile.lrps import DesiredLrp
from reconcile.observed import Observed
from reconcile.reasons import Reason

LOOK_AFTER_START = 1.0
"""Seconds until an LRP is looked at again that was not running when it got its login."""


async def update_login(action: UpdateLogin, observed: Observed, ports: ActionPorts) -> Outcome:
    """Update a login, and learn from reading it back whether this BBS stores it.

    Instances that were refused with the old one are retired, since the BBS would start them after minutes.
    """
    before = action.lrp
    try:
        await ports.logins.update_credentials(before.process_guid, action.credentials)
    except NotFound:
        return Outcome(Reason.NOT_DESIRED)
    after = await ports.lrps.find_desired_lrp(before.process_guid)
    if after is None:
        return Outcome(Reason.NOT_DESIRED)
    if after.tag.epoch != before.tag.epoch:
        return await _take_back(action, after, observed, ports)
    if after.credentials != action.credentials:
        ports.login_storage.is_stored = False
        return Outcome(
            Reason.LOGIN_OUTDATED, "this BBS does not store a login that is updated in place", retry_after=0.0
        )
    ports.login_storage.is_stored = True
    await retire_refused(observed, ports)
    is_starting = bool(observed.instances) and not is_any_running(observed.instances)
    return Outcome(Reason.LOGIN_UPDATED, retry_after=LOOK_AFTER_START if is_starting else None)


async def _take_back(
    action: UpdateLogin, after: DesiredLrp, observed: Observed, ports: ActionPorts
) -> Outcome:
    """Give an LRP its own login back that its owner has desired again from elsewhere in that moment.

    Its cells would offer the login of the private registry to another one.
    """
    source = observed.original_source
    if after.rootfs != action.lrp.rootfs and after.credentials == action.credentials:
        is_source = source is not None and source.rootfs == after.rootfs
        own = source.credentials if source is not None and is_source else None
        await ports.logins.update_credentials(after.process_guid, own)
    return Outcome(Reason.CHANGED_BY_CLOUD_CONTROLLER, retry_after=0.0)
