"""What operators are told of cells, and of what keeps a plan from being carried out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.admin.cells import Obstacles, cells_messages
from controller.admin.rows import row_from_message
from reconcile.circuit_breaker import CircuitBreaker, SetAside
from reconcile.failure_spread import Cause
from reconcile.pull_proof import CanaryLogin, ProofState, PullProof

SHARED, SEGMENT = frozenset[str](), frozenset({"segment"})


@dataclass
class Cells:
    """Cells of which some cannot pull."""

    problems: Mapping[frozenset[str], str] = field(default_factory=dict)
    proofs: Mapping[frozenset[str], PullProof] = field(default_factory=dict)
    refuted: frozenset[CanaryLogin] = frozenset()

    def problem_of(
        self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS
    ) -> str | None:
        known = self.problems.get(placement_tags)
        return known if login is CanaryLogin.CELLS else f"refused {login}"

    def is_refuted(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> bool:
        return login in self.refuted


@dataclass
class Failures:
    """Failures of migrations, and what they have led to."""

    overall: CircuitBreaker = CircuitBreaker(1, 600.0)  # noqa: RUF009 - a frozen value
    set_aside: tuple[SetAside, ...] = ()


@dataclass
class Registry:
    """The private registry, with what is known to be wrong with it."""

    problem: str | None = None

    def problem_of_pulls(self) -> str | None:
        return self.problem


def test_an_unhealthy_private_registry_keeps_every_plan_back() -> None:
    obstacles = Obstacles(Failures(), Cells({SHARED: "they cannot"}), Registry("it does not answer"))

    assert obstacles.to_copies([SHARED]) == ("it does not answer", "they cannot")
    assert obstacles.to_copies([]) == ("it does not answer",)


def test_a_plan_names_the_cells_that_its_apps_need_and_no_others() -> None:
    obstacles = Obstacles(Failures(), Cells({SHARED: "they cannot", SEGMENT: "no room"}), Registry())

    assert obstacles.to_copies([SEGMENT, SEGMENT]) == ("no room (placement tags segment)",)
    assert obstacles.to_copies([SEGMENT, SHARED]) == ("they cannot", "no room (placement tags segment)")
    assert obstacles.to_copies([]) == ()


def test_an_open_circuit_breaker_keeps_every_plan_back() -> None:
    opened = Failures(CircuitBreaker(1, 600.0).failed("web: bridge-timeout", 0.0, Cause("acme", "web")))
    obstacles = Obstacles(opened, Cells(), Registry())

    (said,) = obstacles.to_copies([SHARED])

    assert said.startswith("the circuit breaker is open: 1 migrations in a row failed")


def test_the_proofs_are_written_with_shared_cells_first() -> None:
    proven = PullProof(since=5.0, state=ProofState.PROVEN)
    refuted = PullProof(since=7.0, state=ProofState.REFUTED, said="refused", due_at=9.0)
    running = PullProof(since=1.0, due_at=1.0, running_since=2.0)

    messages = cells_messages(Cells(proofs={SEGMENT: refuted, SHARED: proven, frozenset({"x"}): running}))

    assert [row_from_message(message) for message in messages] == [
        {
            "placement_tags": tags,
            "state": state,
            "since": since,
            "detail": detail,
            "retry_at": retry_at,
            "canary_runs": runs,
            "droplets_detail": "",
        }
        for tags, state, since, detail, retry_at, runs in (
            ([], "proven", 5.0, "", None, False),
            (["segment"], "refuted", 7.0, "refused", 9.0, False),
            (["x"], "unproven", 1.0, "", None, True),
        )
    ]


def test_cells_are_told_of_that_can_pull_for_migrations_and_not_for_droplets() -> None:
    proofs = {SHARED: PullProof(since=5.0, state=ProofState.PROVEN)}

    (nothing,) = cells_messages(Cells(proofs=proofs))
    (one,) = cells_messages(Cells(proofs=proofs, refuted=frozenset({CanaryLogin.MADE_UP})))
    (both,) = cells_messages(Cells(proofs=proofs, refuted=frozenset({CanaryLogin.NONE, CanaryLogin.MADE_UP})))

    assert nothing.droplets_detail == ""
    assert one.droplets_detail == "refused made-up"
    assert both.droplets_detail == "refused none; refused made-up"
