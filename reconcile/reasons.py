"""The reasons for the state of an LRP or a cache job, each with its state and its meaning for people."""

from enum import StrEnum
from typing import Self


class AppState(StrEnum):
    """The state of an LRP with regard to its cached image."""

    CACHED = "cached"
    """It runs from its copy: at least one of its instances does."""
    PENDING = "pending"
    """The daemon has something to do for it."""
    MIGRATING = "migrating"
    """It is being migrated now."""
    WAITING = "waiting"
    """It stays as it is until something outside the daemon changes."""
    SKIPPED = "skipped"
    """It stays on its source, since its owner or an operator decided so."""
    FAILED = "failed"
    """Something went wrong, and it stays as it is: on its source, or on its copy."""


_CACHED, _PENDING, _MIGRATING = AppState.CACHED, AppState.PENDING, AppState.MIGRATING
_WAITING, _SKIPPED, _FAILED = AppState.WAITING, AppState.SKIPPED, AppState.FAILED


class Reason(StrEnum):
    """The reasons, in the order in which an LRP may have them.

    Attributes:
        state: The state that an LRP with this reason is in.
        meaning: One line without a full stop, about the LRP as "it".
    """

    state: AppState
    meaning: str

    def __new__(cls, value: str, state: AppState = AppState.PENDING, meaning: str = "") -> Self:
        """Make a member whose text is its value."""
        member = str.__new__(cls, value)
        member._value_, member.state, member.meaning = value, state, meaning
        return member

    MIGRATED = "migrated", _CACHED, "it runs from its copy"
    ALREADY_CACHED = "already-cached", _CACHED, "it was desired from its copy in the first place"
    LOGIN_OUTDATED = (
        "login-outdated",
        _PENDING,
        "it runs from its copy with an outdated login, and gets the configured one",
    )
    LOGIN_UPDATED = "login-updated", _CACHED, "it runs from its copy, and got the configured login in place"
    FOREIGN_LOGIN = (
        "foreign-login",
        _CACHED,
        "somebody else desired it from a copy, with another login than the configured one; it stays as it is",
    )
    COPY_UNKNOWN = (
        "copy-unknown",
        _WAITING,
        "it runs from a copy that the database, perhaps lost, does not know; `rebuild` looks for its source",
    )
    NOT_CACHED = "not-cached", _PENDING, "its image has no copy yet, and nobody asked for one"
    STAGING_TASK = "staging-task", _PENDING, "an app was staged from the image"
    OPERATOR_REQUEST = "operator-request", _PENDING, "an operator asked for the copy"
    RUNS_FROM_SOURCE = "runs-from-source", _PENDING, "its copy is there, and it may be migrated"
    REGISTRY_UNREACHABLE = (
        "registry-unreachable",
        _PENDING,
        "it goes back to its source, since the private registry does not answer",
    )
    RESTORE_REQUESTED = (
        "restore-requested",
        _PENDING,
        "it goes back to its source, since an operator asked for it",
    )
    COPY_NEEDS_VERIFICATION = (
        "copy-needs-verification",
        _PENDING,
        "instances crashed from its copy, which is read back first",
    )
    COPY_VERIFIED = "copy-verified", _PENDING, "its copy was read back and is complete"
    COPY_VANISHED = (
        "copy-vanished",
        _PENDING,
        "its copy vanished from the private registry and is requested again",
    )
    REPAIRING_COPY = (
        "repairing-copy",
        _PENDING,
        "something of the copy is missing in the private registry, and is sent again",
    )
    COPY_INCOMPLETE = (
        "copy-incomplete",
        _PENDING,
        "it is desired from its copy, which is incomplete: no instance can start until the copy is repaired",
    )
    COPY_LOST = (
        "copy-lost",
        _PENDING,
        "it goes back to its source, since its copy is incomplete and cannot be sent again",
    )
    COPY_REPAIRED = (
        "copy-repaired",
        _PENDING,
        "its copy is complete again, and instances that could not start from it are started anew",
    )
    COPY_AND_SOURCE_LOST = (
        "copy-and-source-lost",
        _FAILED,
        "neither its copy nor its source has its image: push that again, then run `verify --repair`",
    )
    RETRYING_COPY = "retrying-copy", _PENDING, "its copy failed and is requested again"
    COPY_RECORD_MISSING = (
        "copy-record-missing",
        _PENDING,
        "the record of its copy is gone, and the copy is requested again",
    )
    STAGING_MAY_HAVE_BEEN_MISSED = (
        "staging-may-have-been-missed",
        _PENDING,
        "events were lost: the source registry is asked whether the tag has moved",
    )
    SOURCE_UNREACHABLE_KNOWN_COPY_USED = (
        "source-unreachable-known-copy-used",
        _PENDING,
        "nothing of it runs and its source does not answer: it gets the newest copy that its app had",
    )
    RUNS_FROM_FORMER_REGISTRY = (
        "runs-from-former-registry",
        _PENDING,
        "it runs from a copy in a former private registry, and may be migrated to the present one",
    )
    COPY_IN_FORMER_REGISTRY = (
        "copy-in-former-registry",
        _PENDING,
        "its copy is in a former private registry, and is copied to the present one",
    )
    WAITING_FOR_COPY = "waiting-for-copy", _PENDING, "its copy is not finished"
    WAITING_UNTIL_STOPPED = (
        "waiting-until-stopped",
        _WAITING,
        "its copy is there; it is migrated once none of its instances runs, since it may not have a bridge",
    )
    WAITING_FOR_STAGING = (
        "waiting-for-staging",
        _WAITING,
        "it runs, and its staging was not seen: by `unseen_stagings` it waits until it is staged or stops",
    )
    IN_FLIGHT_LIMIT = "in-flight-limit", _PENDING, "`max_in_flight` other LRPs are being migrated"
    WAITING_FOR_RECOVERY = (
        "waiting-for-recovery",
        _PENDING,
        "the migrations that an earlier run left open are resumed first",
    )
    CIRCUIT_BREAKER_OPEN = (
        "circuit-breaker-open",
        _PENDING,
        "migrations of too many organizations and images in a row failed; the detail names the last one",
    )
    SIMILAR_MIGRATIONS_FAILED = (
        "similar-migrations-failed",
        _PENDING,
        "too many migrations of its organization or to its copy failed in a row; the detail names the last",
    )
    CELLS_NOT_PROVEN = (
        "cells-not-proven",
        _PENDING,
        "it waits until a canary shows that cells can pull from the private registry; the detail says why",
    )
    CACHE_REGISTRY_UNHEALTHY = (
        "cache-registry-unhealthy",
        _PENDING,
        "it waits until the private registry serves pulls again; the detail says what is wrong with it",
    )
    CHECK_FAILED = "check-failed", _PENDING, "the last check of it failed and is repeated"
    PAUSED = "paused", _WAITING, "an operator paused the daemon"
    PINNED_TO_SOURCE = (
        "pinned-to-source",
        _SKIPPED,
        "an operator restored its app to its source, and it stays there",
    )
    PLAN_IS_STALE = (
        "plan-is-stale",
        _SKIPPED,
        "it changed since the plan that was applied was made; plan again",
    )
    PREPARED = "prepared", _MIGRATING, "the private registry is asked whether it has its copy"
    BRIDGING = "bridging", _MIGRATING, "its bridge, a temporary second LRP, is being started"
    BRIDGED = "bridged", _MIGRATING, "its bridge runs"
    WAITING_FOR_ROUTES = (
        "waiting-for-routes",
        _MIGRATING,
        "routers get time to learn of new instances before old ones are stopped",
    )
    REMOVING = "removing", _MIGRATING, "it is being removed"
    REMOVED = "removed", _MIGRATING, "it was removed, and is desired again next"
    REMOVAL_UNCONFIRMED = (
        "removal-unconfirmed",
        _MIGRATING,
        "the BBS's answer to its removal was lost, so for a minute it is not known whether it was removed",
    )
    WAITING_FOR_CLOUD_CONTROLLER = (
        "waiting-for-cloud-controller",
        _MIGRATING,
        "it was found removed, and Cloud Controller gets time to desire it again, or to correct it",
    )
    INSTANCES_STOPPING = (
        "instances-stopping",
        _MIGRATING,
        "it was removed, and is desired again once its last instance row is gone, or soon if that takes long",
    )
    DESIRE_UNCONFIRMED = (
        "desire-unconfirmed",
        _MIGRATING,
        "it was desired again, which the next pass checks",
    )
    STARTING = "starting", _MIGRATING, "its own instances are being started again"
    NOT_HEALTHY_BRIDGE_KEPT = (
        "not-healthy-bridge-kept",
        _MIGRATING,
        "too few of its instances run from its copy; its bridge stays",
    )
    OLD_INSTANCES_LEFT = (
        "old-instances-left",
        _MIGRATING,
        "its bridge serves until its old instances end: a cell stops none while it pulls the image for it",
    )
    DRAINING_ORIGINAL = (
        "draining-original",
        _MIGRATING,
        "its bridge has its routes, and requests in flight in its own instances get time to end",
    )
    DRAINING_BRIDGE = (
        "draining-bridge",
        _MIGRATING,
        "its bridge has no routes any more, and requests in flight get time to end",
    )
    REMOVING_BRIDGE = "removing-bridge", _MIGRATING, "its bridge is being removed"
    INSTANCES_CHANGED = (
        "instances-changed",
        _MIGRATING,
        "an instance started or stopped directly before it was to be removed; its removal was cancelled",
    )
    NOT_REMOVED = "not-removed", _MIGRATING, "its removal failed, and it is desired as before"
    CHANGED_BY_CLOUD_CONTROLLER = (
        "changed-by-cloud-controller",
        _MIGRATING,
        "its owner, usually Cloud Controller, desired it again before the daemon did",
    )
    CANCELLED = (
        "cancelled",
        _PENDING,
        "its migration was cancelled before it began; the next pass decides anew",
    )
    BRIDGE_CRASHED = (
        "bridge-crashed",
        _FAILED,
        "instances of its bridge crashed; it stays as it was for an hour at least, and the detail says why",
    )
    BRIDGE_TIMEOUT = (
        "bridge-timeout",
        _FAILED,
        "its bridge did not run in time; it stays as it was for an hour at least",
    )
    BBS_REFUSED_DEFINITION = (
        "bbs-refused-definition",
        _FAILED,
        "the BBS refuses it with another root file system; it stays on its source",
    )
    COPY_CORRUPT = (
        "copy-corrupt",
        _FAILED,
        "instances crashed from its copy, and the copy is corrupt; it is read back again after an hour",
    )
    NOT_HEALTHY = (
        "not-healthy",
        _FAILED,
        "not all of its instances run from its copy; its bridge had no more running, and was removed",
    )
    NOT_PULLED = (
        "not-pulled",
        _FAILED,
        "cells could not pull from the private registry; it is on its source, and tried again once they can",
    )
    COPY_NOT_PULLED = (
        "copy-not-pulled",
        _FAILED,
        "cells could not pull its copy; it stays on its source for an hour at least",
    )
    NOT_STARTED = (
        "not-started",
        _FAILED,
        "none of its instances ran from its copy in time; it stays on its source for an hour at least",
    )
    IMAGE_NOT_STARTED = (
        "image-not-started",
        _FAILED,
        "cells have pulled its copy and cannot start it; it stays on its source for an hour at least",
    )
    PROCESS_EXITED = (
        "process-exited",
        _WAITING,
        "it is desired from its copy, which cells have pulled, but its process ended by itself",
    )
    NO_ROOM = "no-room", _WAITING, "it is desired from its copy, and no cell has room for it"
    NO_INSTANCES = "no-instances", _WAITING, "it is desired from its copy, and no instance of it is wanted"
    NOT_RUNNING = (
        "not-running",
        _WAITING,
        "it is desired from its copy, and none of its instances runs; the detail says why, if the BBS knows",
    )
    COPY_FAILED = "copy-failed", _FAILED, "its image could not be copied; the detail says why"
    CANNOT_RUN_ON_CELLS = (
        "cannot-run-on-cells",
        _FAILED,
        "cells refuse its image, from its source as well, so it is not copied; the detail says why",
    )
    REVERTED_EXTERNALLY = (
        "reverted-externally",
        _FAILED,
        "somebody else reverted three migrations; it is not migrated again for an hour",
    )
    RESTORED = "restored", _SKIPPED, "it was restored to its source"
    FELL_BACK_TO_SOURCE = (
        "fell-back-to-source",
        _SKIPPED,
        "it runs from its source, since the private registry does not answer",
    )
    SOURCE_UNKNOWN = "source-unknown", _FAILED, "it cannot go back, since what it ran from is not known"
    REGISTRY_NOT_CONFIGURED = (
        "registry-not-configured",
        _FAILED,
        "it runs from a copy in a registry that the config does not name; the detail says what to configure",
    )
    SOURCE_CREDENTIALS_UNKNOWN = (
        "source-credentials-unknown",
        _FAILED,
        "the login for its source is not known: it cannot be copied from there, or go back there",
    )
    RETIRED_STALE_INSTANCES = (
        "retired-stale-instances",
        _PENDING,
        "instances of a removed definition were left over and are stopped",
    )
    BRIDGE_IN_USE = (
        "bridge-in-use",
        _SKIPPED,
        "a bridge without an open migration serves more instances than the app itself",
    )
    ORPHANED_BRIDGE = (
        "orphaned-bridge",
        _PENDING,
        "a bridge without an open migration, which its app does not need, is removed",
    )
    BRIDGE_OF_OTHER_STORE = (
        "bridge-of-other-store",
        _SKIPPED,
        "a bridge without an open migration may belong to a daemon with another store on the same BBS",
    )
    DROPLET_PATCHED = (
        "droplet-patched",
        _CACHED,
        "Cloud Controller starts it from its copy, whose name the daemon wrote into the droplet",
    )
    PATCHING_DROPLET = (
        "patching-droplet",
        _MIGRATING,
        "the name of its copy is being written into the droplet",
    )
    RESTORING_DROPLET = (
        "restoring-droplet",
        _MIGRATING,
        "the original image text is being written into the droplet",
    )
    PATCH_UNCONFIRMED = (
        "patch-unconfirmed",
        _MIGRATING,
        "Cloud Controller's answer was lost, so the droplet is read again before anything else is written",
    )
    DROPLET_PULLS_NOT_PROVEN = (
        "droplet-pulls-not-proven",
        _PENDING,
        "cells must first show that they can pull with a login that the private registry does not know",
    )
    CLOUD_CONTROLLER_UNAVAILABLE = (
        "cloud-controller-unavailable",
        _PENDING,
        "Cloud Controller does not answer, or asks for time; its droplet is looked at again",
    )
    CLOUD_CONTROLLER_DENIED = (
        "cloud-controller-denied",
        _FAILED,
        "the UAA client may not read or write the droplet; the detail says what it lacks",
    )
    CLOUD_CONTROLLER_REFUSED = (
        "cloud-controller-refused",
        _FAILED,
        "Cloud Controller refuses the image text for the droplet; it is tried again after an hour",
    )
    COPY_NAME_REFUSED = (
        "copy-name-refused",
        _FAILED,
        "Cloud Controller could make no rootfs of its copy's name; choose a shorter address or template",
    )
    IMAGE_CHANGED_EXTERNALLY = (
        "image-changed-externally",
        _SKIPPED,
        "somebody else wrote another image into the droplet, which keeps that",
    )
    DROPLET_NOT_STAGED = (
        "droplet-not-staged",
        _SKIPPED,
        "its droplet has expired or failed, and nothing is started from it any more",
    )
    DROPLET_GONE = (
        "droplet-gone",
        _SKIPPED,
        "its droplet was deleted, or the UAA client may not read it",
    )
    BUILD_FAILED = "build-failed", _SKIPPED, "its staging failed, and led to no droplet"
    BUILD_GONE = "build-gone", _SKIPPED, "its build was deleted, or the UAA client may not read it"
    REMOVED_BY_OWNER = "removed-by-owner", _SKIPPED, "its owner removed it while it was being migrated"
    NOT_DESIRED = "not-desired", _SKIPPED, "it is no longer desired"
    NOT_DOCKER = "not-docker", _SKIPPED, "it runs no Docker image"
    OTHER_DOMAIN = "other-domain", _SKIPPED, "its domain is not one of `lrp_domains`"
    NOT_CACHEABLE = "not-cacheable", _SKIPPED, "no registry can have an image of this name"
    NO_APP_GUID = "no-app-guid", _SKIPPED, "it names no app, so the stagings that count for it are not known"
    DENIED = "denied", _SKIPPED, "`deny_images` matches its image"
    NOT_ALLOWED = "not-allowed", _SKIPPED, "`allow_images` does not match its image"
    OPTED_OUT = "opted-out", _SKIPPED, "its owner does not want it cached"
    NOT_OPTED_IN = "not-opted-in", _SKIPPED, "its owner did not ask for caching"


def reason_from_text(text: str) -> Reason:
    """Read a saved reason; one that this version does not know becomes CHECK_FAILED until the next pass."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.CHECK_FAILED
