"""Turns what was observed of one desired LRP into the next actions, each with its reason.

Pure: the same observation gives the same actions. A replacement under way is decided
from its journal row and the world alone, so a pass after a crash goes on where the last
one stopped.

Strategy `recreate`, for an LRP of which no instance runs: remove it, wait until it is
not desired and no row of any presence is left, desire it from the cache. A desire over
rows that are left would leave their indices empty until the next convergence. Rows that
do not go by themselves, because their stop was lost, are retired, and after a while no
longer waited for: an index that stays empty until then is better than no app.
Source: cloudfoundry/bbs, remove and desire handlers (measured: 17 s without an instance).
"""

from dataclasses import dataclass, replace

from reconcile.errors import Invalid
from reconcile.images import CacheGuid, CacheRepositories, ImageReference, image_from_rootfs
from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp, ProcessGuid
from reconcile.policy import Policy, decide
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    CacheRequest,
    JobState,
    LrpRecord,
    Phase,
    Replacement,
    origin_of_lrp,
)
from reconcile.staging import Signal, signal_of

MAX_ROUNDS = 3
"""Replacements of one LRP that somebody undid, after which it is left alone."""

ROUNDS_FORGOTTEN_AFTER = 3600.0
"""Seconds without a replacement after which earlier rounds no longer count."""

RETRY_FAILED_AFTER = 3600.0
"""Seconds after which a failed copy is asked for again."""

LOOK_AGAIN = 0.25
"""Seconds until the second look at instances that are being stopped; later ones are farther apart."""

LONGEST_LOOK_AGAIN = 5.0

UNKNOWN_FOR = 60.0
"""Seconds in which a removal whose answer was lost may still take effect: a BBS gives up what it does for
a caller who hung up, but what it commits in that moment stays."""

RETIRE_AFTER = 30.0
"""Seconds after which instance rows that are left by a removal are retired: their stops were lost."""

DESIRE_ANYWAY_AFTER = 120.0
"""Seconds after which instance rows that are left are no longer waited for."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator decided.

    Attributes:
        domains: Only LRPs of these are touched.
        owner_sync_grace: Seconds since the BBS first answered this process that the owner of a fresh domain
            gets to desire again what is missing, before a removal found in the journal counts as the owner's.
            Longer than a domain stays fresh, so that a domain that still is was synced in that time.
        max_in_flight: Open replacements at a time.
    """

    policy: Policy
    cache: CacheRepositories
    domains: frozenset[str]
    owner_sync_grace: float = 180.0
    max_in_flight: int = 10


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision about one process GUID rests on.

    Attributes:
        now: UTC seconds since 1970.
        process_age: Seconds since the BBS first answered this process, whatever the clock did.
        run_id: This process, see `Replacement.run_id`.
        binding_is_current: No staging of the app can have been missed since the binding's.
        domain_is_fresh: Looked up only while a replacement is open; False otherwise.
    """

    process_guid: ProcessGuid
    now: float
    process_age: float
    run_id: str
    lrp: DesiredLrp | None = None
    instances: tuple[ActualLrp, ...] = ()
    binding: Binding | None = None
    binding_is_current: bool = True
    job: CacheJob | None = None
    image: CachedImage | None = None
    replacement: Replacement | None = None
    record: LrpRecord | None = None
    domain_is_fresh: bool = False


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """Nothing to do until something changes."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing to do yet; look again after some seconds."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """The LRP is gone."""

    reason: str = "not-desired"


@dataclass(frozen=True, slots=True)
class CacheImage:
    """Ask for a copy of the source image."""

    request: CacheRequest

    @property
    def reason(self) -> str:
        """Why the copy is wanted."""
        return self.request.reason


@dataclass(frozen=True, slots=True)
class BeginReplacement:
    """Verify the copy once more, write the journal, look at the instances, remove the LRP."""

    lrp: DesiredLrp
    image: CachedImage
    rounds: int
    reason: str = "runs-from-source"


@dataclass(frozen=True, slots=True)
class RetireInstances:
    """Stop once more what a removal left; then look again."""

    instances: tuple[ActualLrp, ...]
    reason: str = "waiting: instances-stopping"


@dataclass(frozen=True, slots=True)
class KeepNewest:
    """Write the newest version of the LRP into the journal while its removal may still take effect."""

    replacement: Replacement
    seconds: float
    reason: str = "waiting: removal-unknown"


@dataclass(frozen=True, slots=True)
class DesireFromCache:
    """Desire the removed LRP again, from its cached image."""

    replacement: Replacement
    reason: str = "instances-gone"


@dataclass(frozen=True, slots=True)
class CloseReplacement:
    """The replacement is over, one way or another; `cache_guid` is set when the LRP runs from the cache."""

    replacement: Replacement
    reason: str
    cache_guid: CacheGuid | None = None


Action = (
    LeaveAlone
    | LookAgain
    | Forget
    | CacheImage
    | BeginReplacement
    | RetireInstances
    | KeepNewest
    | DesireFromCache
    | CloseReplacement
)


def source_of(lrp: DesiredLrp) -> ImageReference:
    """Read an LRP's image in its canonical spelling.

    Raises:
        Invalid: No registry would know such an image.
    """
    return image_from_rootfs(lrp.rootfs).canonical()


def plan(observed: Observed, rules: Rules) -> Action:
    """Decide the next step for one process GUID."""
    if observed.replacement is not None:
        return _go_on(observed.replacement, observed, rules)
    lrp = observed.lrp
    if lrp is None:
        return Forget()
    if not lrp.rootfs.is_docker:
        return LeaveAlone("not-docker")
    if lrp.domain not in rules.domains:
        return LeaveAlone("other-domain", lrp.domain)
    try:
        source = source_of(lrp)
    except Invalid as error:
        return LeaveAlone("not-cacheable", error.detail)
    if not lrp.app_guid:
        return LeaveAlone("no-app-guid", "without one it would share what other apps' stagings brought")
    signal = signal_of(lrp.action)
    if signal is Signal.NONE and observed.binding is not None and observed.binding.opted_in:
        signal = Signal.OPT_IN  # the staging asked for it, by a flag that an LRP does not show
    refusal = decide(rules.policy, image=source, signal=signal, cache=rules.cache)
    if refusal is not None:
        return LeaveAlone(refusal)
    return _get_image(observed, lrp, source) or _replace(observed, lrp)


def _get_image(observed: Observed, lrp: DesiredLrp, source: ImageReference) -> Action | None:
    """Decide what is missing before the LRP can run from a copy; None when nothing is."""
    job, record = observed.job, observed.record
    if observed.binding is None or job is None:
        return _ask(observed, lrp, source, "not-cached")
    if job.state is JobState.FAILED:
        if observed.now - job.updated_at > RETRY_FAILED_AFTER:
            return _ask(observed, lrp, source, "retry-failed")
        return LeaveAlone("cache-failed", job.failure)
    if job.state is not JobState.CACHED:
        return LeaveAlone("waiting: caching", job.failure)
    if observed.image is None:
        return _ask(observed, lrp, source, "record-missing")
    if _runs(observed):  # it would not be moved now: nothing is asked of its source registry for it
        return LeaveAlone("waiting: running")
    is_used = record is not None and record.cache_guid == job.cache_guid
    if not observed.binding_is_current and not is_used:
        return _ask(observed, lrp, source, "staging-may-have-been-missed")
    return None


def _runs(observed: Observed) -> bool:
    return any(instance.state is ActualLrpState.RUNNING for instance in observed.instances)


def _ask(observed: Observed, lrp: DesiredLrp, source: ImageReference, reason: str) -> CacheImage:
    return CacheImage(request_of_lrp(lrp, source, observed.binding, reason=reason))


def request_of_lrp(
    lrp: DesiredLrp, source: ImageReference, confirmed: Binding | None, *, reason: str
) -> CacheRequest:
    """Ask for an LRP's image; `confirmed` is the binding that the answer will stand beside."""
    return CacheRequest(
        app_guid=lrp.app_guid,
        source=source,
        origin=origin_of_lrp(lrp.process_guid),
        staged_at=0 if confirmed is None else confirmed.staged_at,
        reason=reason,
        credentials=lrp.credentials,
        opted_in=confirmed is not None and confirmed.opted_in,
    )


def _replace(observed: Observed, lrp: DesiredLrp) -> Action:
    record = observed.record
    recent = record is not None and observed.now - record.updated_at < ROUNDS_FORGOTTEN_AFTER
    rounds = record.rounds if record is not None and recent else 0
    if rounds >= MAX_ROUNDS:
        return LeaveAlone("put-back", f"somebody undid {rounds} replacements")
    if observed.image is None:
        raise AssertionError("an LRP is replaced only when its copy is known")
    return BeginReplacement(lrp, observed.image, rounds + 1)


def _go_on(replacement: Replacement, observed: Observed, rules: Rules) -> Action:
    """Decide the next step of an open replacement; the rows are the states of the world.

    | desired LRP                | instance rows | then                                                |
    | -------------------------- | ------------- | --------------------------------------------------- |
    | any                        | any           | while a removal may still take effect: look again   |
    | from the cache             | any           | close: replaced                                     |
    | the one that was to go     | any           | close: it was not removed; plan anew                |
    | another one, from a source | any           | close: its owner was faster; plan anew              |
    | none                       | some          | look again; retire them; in the end go on           |
    | none                       | none          | desire from the cache                               |
    """
    lrp = observed.lrp
    if lrp is None:
        return _bring_back(replacement, observed, rules)
    if observed.now < replacement.unknown_until:
        newest = (
            replace(replacement, original=lrp) if lrp.rootfs == replacement.original.rootfs else replacement
        )
        return KeepNewest(newest, min(LONGEST_LOOK_AGAIN, replacement.unknown_until - observed.now + 0.1))
    if lrp.rootfs == rules.cache.rootfs(replacement.cache_guid):
        return CloseReplacement(replacement, "replaced", replacement.cache_guid)
    same = lrp.tag.epoch == replacement.original.tag.epoch
    return CloseReplacement(replacement, "not-removed" if same else "owner-was-faster")


def _bring_back(replacement: Replacement, observed: Observed, rules: Rules) -> Action:
    """Decide about an LRP that is not desired at the moment, most likely because we removed it."""
    if replacement.phase is Phase.PREPARED:
        return CloseReplacement(replacement, "owner-removed-it")
    if replacement.run_id != observed.run_id and observed.domain_is_fresh:
        # The process died between removal and desire. Where the domain is fresh its owner sweeps, and
        # would have desired what should exist: what is still missing after that was stopped or deleted.
        if observed.process_age < rules.owner_sync_grace:
            left = rules.owner_sync_grace - observed.process_age
            return LookAgain("waiting: owner-sync", min(LONGEST_LOOK_AGAIN, left + 0.1))
        return CloseReplacement(replacement, "owner-removed-it")
    waited = observed.now - replacement.started_at
    if not observed.instances or waited > DESIRE_ANYWAY_AFTER:
        return DesireFromCache(replacement)
    if waited > RETIRE_AFTER:
        return RetireInstances(observed.instances)
    return LookAgain("waiting: instances-stopping", min(LONGEST_LOOK_AGAIN, max(LOOK_AGAIN, waited / 10)))
