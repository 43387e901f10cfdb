"""Why an LRP is as it is: every reason a pass can come to, what state it stands for, and what it means."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class AppState(StrEnum):
    """Where an LRP is on its way to its cached image."""

    CACHED = "cached"
    """It runs from its copy."""
    PENDING = "pending"
    """Something is to be done for it."""
    MOVING = "moving"
    """It is being moved now."""
    LEFT_ALONE = "left-alone"
    """It stays on its source, since somebody decided so."""
    FAILED = "failed"
    """It stays on its source, since something went wrong."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason stands for; `text` is for people."""

    state: AppState
    text: str


CIRCUIT_OPEN = "waiting: circuit-open"
LOOK_FAILED = "waiting: look-failed"
"""What an order hears of a pass that came to nothing."""

_CACHED, _PENDING, _MOVING = AppState.CACHED, AppState.PENDING, AppState.MOVING
_LEFT, _FAILED = AppState.LEFT_ALONE, AppState.FAILED

REASONS: Mapping[str, Meaning] = {
    "replaced": Meaning(_CACHED, "it runs from its copy"),
    "already-cached": Meaning(_CACHED, "it was desired from its copy in the first place"),
    "not-cached": Meaning(_PENDING, "its image has no copy yet, and none was asked for"),
    "runs-from-source": Meaning(_PENDING, "its copy is there, and it may be moved"),
    "registry-unreachable": Meaning(_PENDING, "it is to go back to its source: the registry does not answer"),
    "operator-restores": Meaning(_PENDING, "it is to go back to its source: an operator asked for it"),
    "image-suspect": Meaning(_PENDING, "instances crashed from its copy, which is read back first"),
    "image-verified": Meaning(_PENDING, "its copy was read back, and is whole"),
    "retry-failed": Meaning(_PENDING, "its copy failed, and is asked for again"),
    "record-missing": Meaning(_PENDING, "the record of its copy is gone, and is asked for again"),
    "staging-may-have-been-missed": Meaning(
        _PENDING, "events were lost: its source is asked whether its tag has moved"
    ),
    "waiting: caching": Meaning(_PENDING, "its copy is not finished"),
    "waiting: running": Meaning(
        _LEFT, "its copy is there; it is moved once nothing of it runs, since it may not have a bridge"
    ),
    "waiting: in-flight-limit": Meaning(_PENDING, "`max_in_flight` other LRPs are being moved"),
    "waiting: recovery": Meaning(_PENDING, "what an earlier run left open is looked at first"),
    CIRCUIT_OPEN: Meaning(_PENDING, "too many were moved in vain; the detail names the last one"),
    LOOK_FAILED: Meaning(_PENDING, "the last look at it failed, and is tried again"),
    "waiting: paused": Meaning(_LEFT, "an operator paused the daemon"),
    "held": Meaning(_LEFT, "an operator put its app back on its source, and it stays there"),
    "changed-since-plan": Meaning(_LEFT, "it is not what the plan that was applied says; plan again"),
    "waiting: prepared": Meaning(_MOVING, "its copy is asked for once more"),
    "waiting: bridging": Meaning(_MOVING, "its bridge is being started"),
    "waiting: bridged": Meaning(_MOVING, "its bridge runs"),
    "waiting: route-settling": Meaning(_MOVING, "routers get time to learn of instances before others go"),
    "waiting: removing": Meaning(_MOVING, "it is being removed"),
    "waiting: removed": Meaning(_MOVING, "it was removed, and is desired again next"),
    "waiting: removal-unknown": Meaning(
        _MOVING, "whether it was removed is not known for a minute, since the BBS's answer was lost"
    ),
    "waiting: owner-sync": Meaning(
        _MOVING, "found removed after a restart; Cloud Controller may desire it again first"
    ),
    "waiting: instances-stopping": Meaning(
        _MOVING, "it was removed and is desired again when its last instance row is gone"
    ),
    "waiting: replaced-unconfirmed": Meaning(_MOVING, "it was desired again, which is looked at next"),
    "waiting: settling": Meaning(_MOVING, "its own instances are being started again"),
    "waiting: not-settled": Meaning(_MOVING, "it runs from its copy in too few instances; its bridge stays"),
    "waiting: unbridging": Meaning(_MOVING, "its bridge is being removed"),
    "changed-meanwhile": Meaning(_MOVING, "an instance began or ended to run just before its removal"),
    "not-removed": Meaning(_MOVING, "it is desired as before, its removal did not happen"),
    "owner-was-faster": Meaning(_MOVING, "its owner desired it again before us"),
    "called-off": Meaning(_PENDING, "what was only prepared for it was called off, and is planned anew"),
    "bridge-crashed": Meaning(
        _FAILED, "instances of its bridge crashed from the copy; it stays as it was, for an hour at least"
    ),
    "bridge-timeout": Meaning(
        _FAILED, "its bridge did not run in time; it stays as it was, for an hour at least"
    ),
    "bbs-refused-rewrite": Meaning(
        _FAILED, "the BBS does not take it with another root file system; it stays on its source"
    ),
    "copy-damaged": Meaning(
        _FAILED, "instances crashed from its copy, and the copy is not whole; read back again after an hour"
    ),
    "not-settled": Meaning(
        _FAILED, "it runs from its copy, and not all of its instances do; its bridge served no more of them"
    ),
    "cache-failed": Meaning(_FAILED, "its image could not be copied; the detail says why"),
    "put-back": Meaning(_FAILED, "somebody undid three replacements; left alone for an hour"),
    "restored": Meaning(_LEFT, "it was put back on its source"),
    "waiting: registry-unreachable": Meaning(
        _LEFT, "it runs from its source, since the private registry does not answer"
    ),
    "origin-unknown": Meaning(_FAILED, "it cannot go back: what it ran from is not known"),
    "origin-credentials-unknown": Meaning(
        _FAILED, "it cannot go back: the login for what it ran from is not known"
    ),
    "retired-stale-instances": Meaning(
        _PENDING, "instances of a definition that was removed were still there, and are stopped"
    ),
    "bridge-still-serves": Meaning(_LEFT, "a bridge without a record serves more than the app itself"),
    "bridge-left-behind": Meaning(_PENDING, "a bridge without a record that nobody needs is removed"),
    "owner-removed-it": Meaning(_LEFT, "its owner removed it while it was being moved"),
    "not-desired": Meaning(_LEFT, "it is gone"),
    "not-docker": Meaning(_LEFT, "it runs no Docker image"),
    "other-domain": Meaning(_LEFT, "its domain is not one of `lrp_domains`"),
    "not-cacheable": Meaning(_LEFT, "no registry would know such an image"),
    "no-app-guid": Meaning(_LEFT, "it names no app, so nobody knows whose stagings count for it"),
    "denied": Meaning(_LEFT, "`deny_images` matches its image"),
    "not-allowed": Meaning(_LEFT, "`allow_images` does not match its image"),
    "opted-out": Meaning(_LEFT, "its owner does not want it cached"),
    "not-opted-in": Meaning(_LEFT, "its owner did not ask for it"),
}
"""Reason to what it means, in the order of a life."""


def state_of(reason: str) -> AppState:
    """Tell the state that a reason stands for."""
    return REASONS[reason].state
