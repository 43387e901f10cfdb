"""Decides when migrations have failed so often that no more are started.

What fails may be at fault itself: so many failures of one app, of one organization or with one image count as
one. Pure state and arithmetic; the caller brings the clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from reconcile.failure_spread import Cause, spread, with_cause
from reconcile.times import seconds_until

PROBE_CHECK_INTERVAL = 60.0
"""Seconds after which a migration that waits for the end of a probe is queued again; a probe that succeeds
wakes those that wait."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """A circuit breaker: closed, it allows all migrations; open, it allows a single probe after a while.

    Attributes:
        max_failures: Failures in a row without anything in common that open it.
        retry_after: Seconds after which an open circuit breaker allows a probe.
        causes: What the failures in a row may be explained by; no more than are needed to open it.
        opened_at: UTC seconds since 1970; None while it is closed.
        cells: Where the failures in a row were met, as far as cells have said so.
        last_failure: What failed last; empty while there was no failure since the last success.
        is_probing: Whether a probe is under way.
    """

    max_failures: int
    retry_after: float
    causes: frozenset[Cause] = frozenset()
    cells: frozenset[str] = frozenset()
    opened_at: float | None = None
    last_failure: str = ""
    is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether only a probe is allowed."""
        return self.opened_at is not None

    @property
    def failures(self) -> int:
        """Failures in a row so far that have nothing in common."""
        return spread(self.causes)

    @property
    def retry_at(self) -> float:
        """UTC seconds since 1970 after which a probe is allowed; 0 while it is closed."""
        return 0.0 if self.opened_at is None else self.opened_at + self.retry_after

    def seconds_until_allowed(self, now: float) -> float:
        """Count the seconds until a migration may start; 0 when one may start now."""
        if self.opened_at is None:
            return 0.0
        left = seconds_until(self.retry_at, now, longest=self.retry_after)
        return max(left, PROBE_CHECK_INTERVAL) if self.is_probing else left

    def started(self) -> "CircuitBreaker":
        """Note that a migration was started: while the circuit breaker is open it is the probe."""
        return replace(self, is_probing=self.is_open)

    def succeeded(self) -> "CircuitBreaker":
        """Note a success, which closes the circuit breaker."""
        return CircuitBreaker(self.max_failures, self.retry_after)

    def failed(
        self, failure: str, now: float, cause: Cause, cells: frozenset[str] = frozenset()
    ) -> "CircuitBreaker":
        """Note a failure, which may open the circuit breaker, or start its waiting time anew."""
        causes = self.causes if self.is_open else with_cause(self.causes, cause, most=self.max_failures)
        is_open = self.is_open or spread(causes) >= self.max_failures
        return replace(
            self,
            causes=causes,
            cells=self.cells | cells,
            opened_at=now if is_open else None,
            last_failure=failure,
            is_probing=False,
        )

    def cancelled(self) -> "CircuitBreaker":
        """Note that a migration ended without saying whether migrations work."""
        return replace(self, is_probing=False)

    def __str__(self) -> str:
        if not self.is_open:
            return f"closed, {self.failures} failures in a row"
        return f"{self.failures} migrations in a row failed{self.where}, the last one: {self.last_failure}"

    @property
    def only_cell(self) -> str:
        """Name the cell on which all failures were met, which then may be at fault; empty for several."""
        return next(iter(self.cells)) if len(self.cells) == 1 else ""

    @property
    def where(self) -> str:
        """Say the same for people."""
        return f", all on cell {self.only_cell}" if self.only_cell else ""


@dataclass(frozen=True, slots=True)
class MigrationSubject:
    """Who and what a migration is about, so far as a failure may be their fault.

    Attributes:
        app: Its GUID.
        organization: Its GUID; that of the app where it is not known.
        image: The GUID of the copy.
    """

    app: str
    organization: str
    image: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """What has failed so often by itself that its migrations wait; an empty name means any.

    Attributes:
        breaker: How often, and until when.
    """

    organization: str
    image: str
    breaker: CircuitBreaker

    def __str__(self) -> str:
        whose = "" if not self.organization else f" of organization {self.organization}"
        what = "" if not self.image else f" to copy {self.image}"
        count = self.breaker.failures
        where, last = self.breaker.where, self.breaker.last_failure
        return f"{count} migrations{whose}{what} in a row failed{where}, the last one: {last}"


Scope = tuple[str, str]
"""An organization and an image; an empty name means any."""

_ALL: Scope = ("", "")


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """What is kept of failures in a row, for a later process.

    Attributes:
        scope: What they count against.
        causes: See `CircuitBreaker`, as what follows.
        cells_not_proven: Whether cells were not known to pull when a migration failed, so that the failures
            count no more once they are.
    """

    scope: Scope
    causes: frozenset[Cause]
    cells: frozenset[str]
    opened_at: float | None
    last_failure: str
    cells_not_proven: bool = False


MOST_SCOPES = 1000
"""Organizations, images and pairs of them whose failures are remembered; those are forgotten that have failed
least recently."""


def _scopes_of(subject: MigrationSubject) -> Mapping[Scope, Cause]:
    """List what a failure counts against, each with what it must not have in common with the others there."""
    app, organization, image = subject.app, subject.organization, subject.image
    return {
        _ALL: Cause(organization, image),
        (organization, ""): Cause(image, image),
        ("", image): Cause(organization, organization),
        (organization, image): Cause(app, app),
    }


class CircuitBreakers:
    """A circuit breaker for all migrations, and one for each organization, image and pair with failures.

    An organization whose images fail one after the other is set aside by itself, and so is an image that
    fails in one organization after the other, or in one app after the other of the same organization. All
    others go on. When failures spread over organizations and images, no migration starts.

    Args:
        closed: The one of all migrations, as it is when the process starts; the others are like it.
    """

    def __init__(self, closed: CircuitBreaker) -> None:
        self._closed = closed.succeeded()
        self._breakers: dict[Scope, CircuitBreaker] = {_ALL: closed}

    @property
    def overall(self) -> CircuitBreaker:
        """The circuit breaker of all migrations."""
        return self._breakers[_ALL]

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """List what is set aside, the latest failure last."""
        return tuple(
            SetAside(*scope, breaker)
            for scope, breaker in self._breakers.items()
            if scope != _ALL and breaker.is_open
        )

    def set_aside_for(self, subject: MigrationSubject, now: float) -> tuple[SetAside, float] | None:
        """Return why a migration must wait although others may start, and how long; None when it need not."""
        waits = [
            (breaker.seconds_until_allowed(now), SetAside(*scope, breaker))
            for scope in _scopes_of(subject)
            if scope != _ALL and (breaker := self._breakers.get(scope)) is not None
        ]
        seconds, what = max(waits, key=lambda each: each[0], default=(0.0, None))
        return None if what is None or seconds <= 0 else (what, seconds)

    def started(self, subject: MigrationSubject) -> None:
        """Note that a migration was started."""
        for scope in self._known(subject):
            self._breakers[scope] = self._breakers[scope].started()

    def resumed(self, subject: MigrationSubject, started_at: float) -> None:
        """Note that a migration of an earlier process goes on: it is the probe, if it was started as one."""
        for scope in self._known(subject):
            opened_at = self._breakers[scope].opened_at
            if opened_at is not None and started_at >= opened_at:
                self._breakers[scope] = self._breakers[scope].started()

    def succeeded(self, subject: MigrationSubject) -> None:
        """Note a success: neither its organization nor its image is at fault, and migrations work."""
        for scope in self._known(subject):
            if scope != _ALL:
                del self._breakers[scope]
        self._breakers[_ALL] = self.overall.succeeded()

    def failed(
        self, subject: MigrationSubject, failure: str, now: float, cells: frozenset[str] = frozenset()
    ) -> tuple[SetAside, ...]:
        """Note a failure, and the cells that instances crashed on; return what is set aside from now on."""
        set_aside = list[SetAside]()
        for scope, cause in _scopes_of(subject).items():
            before = self._breakers.pop(scope, self._closed)
            after = self._breakers[scope] = before.failed(failure, now, cause, cells)  # at the end now
            if scope != _ALL and after.is_open and not before.is_open:
                set_aside.append(SetAside(*scope, after))
        while len(self._breakers) > MOST_SCOPES:
            oldest = next(scope for scope in self._breakers if scope != _ALL)
            del self._breakers[oldest]
        return tuple(set_aside)

    def cancelled(self, subject: MigrationSubject) -> None:
        """Note that a migration ended without saying whether migrations work."""
        for scope in self._known(subject):
            self._breakers[scope] = self._breakers[scope].cancelled()

    @property
    def failures(self) -> tuple[FailureRecord, ...]:
        """List the failures in a row, the latest failure last."""
        return tuple(
            FailureRecord(scope, each.causes, each.cells, each.opened_at, each.last_failure)
            for scope, each in self._breakers.items()
            if each.causes or each.is_open
        )

    def restore(self, failures: Iterable[FailureRecord]) -> None:
        """Count the failures of an earlier process, and none of before; a probe of then is not awaited."""
        self.close_all()
        for each in failures:
            self._breakers.pop(each.scope, None)  # at the end now
            self._breakers[each.scope] = replace(
                self._closed,
                causes=each.causes,
                cells=each.cells,
                opened_at=each.opened_at,
                last_failure=each.last_failure,
            )

    def close_all(self) -> None:
        """Forget all failures."""
        self._breakers = {_ALL: self._closed}

    def _known(self, subject: MigrationSubject) -> list[Scope]:
        return [scope for scope in _scopes_of(subject) if scope in self._breakers]
