"""Decides how an LRP that runs from a copy gets the login with which cells are to pull it.

Cells read an LRP's login when they start an instance, so one that has become invalid is not noticed before
that. Where the BBS stores a login that is updated in place, no instance is touched. Otherwise the LRP is
migrated from its copy to the same copy, with its source left as it is known.

Only an LRP that this program has migrated to that copy gets the login, and one that Cloud Controller desired
from a droplet that this program made name the copy. Whoever else desires an LRP from the private registry
must bring one, or could read the images of others with the cells' login.

What Cloud Controller desires from such a droplet has the login of its source. It is no reason for a
migration where cells can pull with it: it stays until the next one where the BBS does not change it in place.
Source: cloudfoundry/bbs models/desired_lrp.proto; a BBS of 2024 takes such an update and changes nothing.
"""

from reconcile.actions import Action, BeginMigration, Skip, UpdateLogin, VerifyImage
from reconcile.instances import failure_of_pull
from reconcile.lrps import DesiredLrp
from reconcile.migration_choice import failed_lately, rounds_before, strategy_of
from reconcile.observed import Observed, Rules
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.references import CacheGuid, source_from_rootfs
from reconcile.start_failures import Blame

OUTDATED = "its login for the private registry is not the configured one"
"""Says of an LRP why it would be changed, where something else keeps it from being changed now."""


def is_outdated(observed: Observed, lrp: DesiredLrp, rules: Rules) -> bool:
    """Whether an LRP whose source is known has another login than is configured, and is to get that."""
    guid, source = _copy_with_other_login(lrp, rules), observed.original_source
    is_ours = guid is not None and source is not None and source.cache_guid == guid
    return is_ours and not keeps_source_login(observed)


def keeps_source_login(observed: Observed) -> bool:
    """Whether an LRP stays with the login of its source, which cells can pull its copy with.

    In place it is changed where the BBS stores that, and where the login for the way back can be kept.
    """
    source = observed.original_source
    if source is None or not observed.has_source_login or not observed.can_pull_with_own_login:
        return False
    is_login_kept = source.credentials is not None or not source.needs_credentials
    return observed.stores_logins is False or not is_login_kept


def renew_login(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action | None:
    """Decide how an LRP gets the login that is configured; None when it has that, or must bring its own."""
    if not is_outdated(observed, lrp, rules):
        return None
    if observed.is_paused and observed.order is None:
        return Skip(Reason.PAUSED, OUTDATED)
    if observed.stores_logins is not False:
        return UpdateLogin(lrp, rules.pull_credentials)
    return _migrate(observed, lrp, rules)


def renew_refused_login(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action | None:
    """Decide whether an LRP whose copy cells cannot pull needs nothing but the configured login."""
    failure = failure_of_pull(observed.instances)
    if failure is None or failure.blame is not Blame.REGISTRY:
        return None
    action = renew_login(observed, lrp, rules)
    return action if isinstance(action, UpdateLogin | BeginMigration) else None


def foreign_login(lrp: DesiredLrp, rules: Rules) -> Skip | None:
    """Say of an LRP that somebody else desired from a copy that it has another login; None if it has not.

    To be asked after everybody who knows where the LRP comes from.
    """
    return None if _copy_with_other_login(lrp, rules) is None else Skip(Reason.FOREIGN_LOGIN)


def _copy_with_other_login(lrp: DesiredLrp, rules: Rules) -> CacheGuid | None:
    """Return the copy in the present registry that an LRP runs from with another login; None for no such."""
    image = source_from_rootfs(lrp.rootfs)
    guid = None if image is None or lrp.credentials == rules.pull_credentials else rules.cache.guid_of(image)
    return guid if guid is not None and lrp.rootfs == rules.cache.rootfs(guid) else None


def _migrate(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action:
    copy, rounds = observed.current_copy, rounds_before(observed)
    if copy is None:
        return Skip(Reason.LOGIN_OUTDATED, "it cannot be migrated, since the record of its copy is gone")
    failed = failed_lately(observed)
    if failed is not None:
        return failed
    if rounds >= MAX_ROUNDS:
        return Skip(Reason.LOGIN_OUTDATED, f"it was migrated {rounds} times lately, and is tried again later")
    how = strategy_of(observed, lrp, copy.source, rules)
    if isinstance(how, Skip):
        return Skip(Reason.LOGIN_OUTDATED, f"{how.reason}: {how.detail}") if _waits(how) else how
    if copy.needs_verification_since:
        return VerifyImage(lrp, copy)
    return BeginMigration(
        lrp, copy, rounds + 1, strategy=how, reason=Reason.LOGIN_OUTDATED, renews_login=True
    )


def _waits(how: Skip) -> bool:
    return how.reason is Reason.WAITING_UNTIL_STOPPED
