"""Turns what was observed of one LRP into the next action, with its reason.

Pure: the same observation gives the same actions. How a replacement that was begun goes on is the
neighbour's (`protocol`); here it is decided what is cached, and which LRP is moved, when and how.
"""

from dataclasses import dataclass

from reconcile.bridges import can_have_bridge
from reconcile.circuit import Circuit
from reconcile.errors import Invalid
from reconcile.images import CacheRepositories, ImageReference, image_from_rootfs
from reconcile.lrps import ActualLrp, Credentials, DesiredLrp, ProcessGuid, Pull
from reconcile.policy import Policy, ReplaceRunning, RunningPolicy, decide
from reconcile.protocol import (
    FAILURES,
    MAX_ROUNDS,
    is_any_running,
    needed,
    next_step,
    running,
    stale_instances,
)
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    CacheRequest,
    Goal,
    JobState,
    LrpRecord,
    Origin,
    Replacement,
    Strategy,
    origin_of_lrp,
)
from reconcile.staging import Signal, signal_of
from reconcile.steps import Limits, Retire, Step, World

ROUNDS_FORGOTTEN_AFTER = 3600.0
"""Seconds without a replacement after which earlier rounds no longer count."""

COPY_DAMAGED = "copy-damaged"
"""A suspect copy was read back, and is not what it should be."""

_NOT_AT_ONCE = FAILURES | {COPY_DAMAGED}

RETRY_FAILED_AFTER = 3600.0
"""Seconds after which a failed copy is asked for again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator decided.

    Attributes:
        domains: Only LRPs of these are touched.
        running: Whether an LRP may be moved while it runs.
        may_bridge: Bridges are possible at all: the journal outlives the process.
        pull_credentials: The login that cells use at the private registry; None when they need none.
        max_in_flight: Open replacements at a time.
        circuit: The circuit breaker as it is at the start.
    """

    policy: Policy
    cache: CacheRepositories
    domains: frozenset[str]
    running: RunningPolicy = RunningPolicy()  # noqa: RUF009 - a frozen value
    limits: Limits = Limits()  # noqa: RUF009 - a frozen value
    may_bridge: bool = False
    pull_credentials: Credentials | None = None
    max_in_flight: int = 10
    circuit: Circuit = Circuit(most=3, retry_after=600.0)  # noqa: RUF009 - a frozen value


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision about one process GUID rests on.

    Attributes:
        now: UTC seconds since 1970.
        process_age: Seconds since the BBS first answered this process, whatever the clock did.
        run_id: This process, see `Replacement.run_id`.
        binding_is_current: No staging of the app can have been missed since the binding's.
        bridge: Looked up only while a replacement with a bridge is open, like its instances.
        sighted: See `World`.
        stale: Instance GUIDs of definitions that were removed.
        origin: What the LRP ran from before it was moved; looked up only to go back there.
        is_restoring: LRPs are moved back to their sources, since the private registry is gone.
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
    bridge: DesiredLrp | None = None
    bridge_instances: tuple[ActualLrp, ...] = ()
    sighted: tuple[DesiredLrp, ...] = ()
    stale: frozenset[str] = frozenset()
    origin: Origin | None = None
    is_restoring: bool = False
    domain_is_fresh: bool = False

    @property
    def world(self) -> World:
        """What the protocol looks at."""
        return World(
            now=self.now,
            process_age=self.process_age,
            run_id=self.run_id,
            lrp=self.lrp,
            instances=self.instances,
            bridge=self.bridge,
            bridge_instances=self.bridge_instances,
            sighted=self.sighted,
            domain_is_fresh=self.domain_is_fresh,
        )


@dataclass(frozen=True, slots=True)
class LeftBridge:
    """A bridge that no replacement knows of, and the LRP that it stands in for.

    Attributes:
        is_in_use: A replacement of that LRP is open after all.
        domains_are_fresh: Every domain that LRPs are replaced in.
    """

    process_guid: ProcessGuid
    process_age: float
    bridge: DesiredLrp | None = None
    bridge_instances: tuple[ActualLrp, ...] = ()
    lrp: DesiredLrp | None = None
    instances: tuple[ActualLrp, ...] = ()
    is_in_use: bool = False
    domains_are_fresh: bool = False


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """Nothing to do until something changes."""

    reason: str
    detail: str = ""


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
class VerifyImage:
    """Read a copy back that instances crashed from, before another app is moved to it."""

    lrp: DesiredLrp
    image: CachedImage
    reason: str = "image-suspect"


@dataclass(frozen=True, slots=True)
class BeginReplacement:
    """Verify the copy once more, write the journal, and begin.

    Attributes:
        image: To move to; None on the way back.
    """

    lrp: DesiredLrp
    image: CachedImage | None
    rounds: int
    goal: Goal = Goal.CACHE
    strategy: Strategy = Strategy.RECREATE
    reason: str = "runs-from-source"


@dataclass(frozen=True, slots=True)
class GoOn:
    """Take the next step of a replacement."""

    step: Step
    target: Pull


@dataclass(frozen=True, slots=True)
class RemoveLeftBridge:
    """Remove a bridge that nobody needs."""

    process_guid: ProcessGuid
    reason: str = "bridge-left-behind"


Action = LeaveAlone | Forget | CacheImage | VerifyImage | BeginReplacement | GoOn | Retire | RemoveLeftBridge


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
    foreign = _not_ours(lrp, rules)
    if foreign is not None:
        return foreign
    stale = stale_instances(observed.instances, observed.stale)
    if stale:
        return Retire(stale, "retired-stale-instances")
    source = source_of(lrp)
    if observed.is_restoring:
        if rules.cache.holds(source):
            return _restore(observed, lrp, rules)
        return LeaveAlone("waiting: registry-unreachable", "LRPs are moved back to their sources")
    return _move(observed, lrp, source, rules)


def _not_ours(lrp: DesiredLrp, rules: Rules) -> LeaveAlone | None:
    """Give the reason why an LRP cannot be moved whatever happens; None when it may be."""
    if not lrp.rootfs.is_docker:
        return LeaveAlone("not-docker")
    if lrp.domain not in rules.domains:
        return LeaveAlone("other-domain", lrp.domain)
    try:
        source_of(lrp)
    except Invalid as error:
        return LeaveAlone("not-cacheable", error.detail)
    if not lrp.app_guid:
        return LeaveAlone("no-app-guid", "without one it would share what other apps' stagings brought")
    return None


def _move(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    """Decide what brings an LRP to its cached image."""
    signal = signal_of(lrp.action)
    if signal is Signal.NONE and observed.binding is not None and observed.binding.opted_in:
        signal = Signal.OPT_IN  # the staging asked for it, by a flag that an LRP does not show
    refusal = decide(rules.policy, image=source, signal=signal, cache=rules.cache)
    if refusal is not None:
        return LeaveAlone(refusal)
    return _get_image(observed, lrp, source, rules) or _replace(observed, lrp, source, rules)


def plan_left_bridge(left: LeftBridge, *, owner_sync: float) -> Action:
    """Decide about a bridge that no replacement knows of: its record was lost, or it came late."""
    if left.bridge is None or left.is_in_use:
        return Forget()
    bridged = running(left.bridge, left.bridge_instances)
    if left.lrp is not None:
        if running(left.lrp, left.instances) >= min(left.lrp.instances, bridged):
            return RemoveLeftBridge(left.process_guid)
        return LeaveAlone("bridge-still-serves", "fewer instances of the app itself run")
    if bridged == 0 or (left.domains_are_fresh and left.process_age > owner_sync):
        return RemoveLeftBridge(left.process_guid)  # its owner removed the app
    return LeaveAlone("bridge-still-serves", "the app itself is not desired")


def _restore(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action:
    origin = observed.origin
    if origin is None:
        return LeaveAlone("origin-unknown", "it was not moved here by this program, or its record is gone")
    if origin.needs_credentials and origin.credentials is None:
        return LeaveAlone("origin-credentials-unknown", "they are kept only with a journal key")
    how = _strategy(observed, lrp, image_from_rootfs(origin.rootfs).canonical(), rules)
    if isinstance(how, LeaveAlone):
        return how
    return BeginReplacement(lrp, None, 1, Goal.SOURCE, how, reason="registry-unreachable")


def _strategy(
    observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules
) -> Strategy | LeaveAlone:
    """Choose how an LRP may be moved now."""
    if not is_any_running(observed.instances):
        return Strategy.RECREATE
    if rules.running.of(lrp, source) is ReplaceRunning.NEVER:
        return LeaveAlone("waiting: running", "replace_running is never")
    if not rules.may_bridge:
        return LeaveAlone("waiting: running", "moving it while it runs needs journal_key_file")
    if not can_have_bridge(lrp.process_guid):
        return LeaveAlone("waiting: running", "its process GUID is too long to name a bridge after it")
    if needed(lrp, observed.instances) == 0:
        return LeaveAlone("waiting: running", "its last instances are being stopped")
    return Strategy.BRIDGE


def _get_image(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action | None:
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
    how = _strategy(observed, lrp, source, rules)
    if isinstance(how, LeaveAlone):  # it would not be moved now: its source registry is not asked for it
        return how
    is_used = record is not None and record.cache_guid == job.cache_guid
    if not observed.binding_is_current and not is_used:
        return _ask(observed, lrp, source, "staging-may-have-been-missed")
    return None


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


def _replace(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Action:
    record, image = observed.record, observed.image
    age = None if record is None else observed.now - record.updated_at
    has_failed = record is not None and record.reason in _NOT_AT_ONCE
    if record is not None and age is not None and has_failed and age < RETRY_FAILED_AFTER:
        return LeaveAlone(record.reason, record.detail)
    rounds = record.rounds if record is not None and age is not None and age < ROUNDS_FORGOTTEN_AFTER else 0
    if rounds >= MAX_ROUNDS:
        return LeaveAlone("put-back", f"somebody undid {rounds} replacements")
    how = _strategy(observed, lrp, source, rules)
    if image is None or isinstance(how, LeaveAlone):
        raise AssertionError("an LRP is replaced only when its copy is known and it may be moved")
    if image.suspect_since:
        return VerifyImage(lrp, image)
    return BeginReplacement(lrp, image, rounds + 1, strategy=how)


def _go_on(replacement: Replacement, observed: Observed, rules: Rules) -> Action:
    if replacement.goal is Goal.CACHE:
        target = Pull(rules.cache.rootfs(replacement.cache_guid), rules.pull_credentials)
    elif observed.origin is not None:
        target = Pull(observed.origin.rootfs, observed.origin.credentials)
    else:
        raise AssertionError("the way back is known before it is taken")
    step = next_step(replacement, observed.world, target=target, limits=rules.limits)
    return GoOn(step, target)
