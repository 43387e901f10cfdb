"""Every reason that a pass can come to has a meaning: without one a running daemon would fail on it.

What the code can come to is read from the code itself, since a list kept by hand would forget the same
reasons as the table does.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import controller
import reconcile
from reconcile import plan, policy, protocol
from reconcile.protocol import FAILURES, REPLACED
from reconcile.reasons import REASONS, AppState, state_of
from reconcile.records import Phase

PACKAGES = {package.__name__: Path(next(iter(package.__path__))) for package in (reconcile, controller)}
PATHS = (
    *sorted(PACKAGES["reconcile"].glob("*.py")),
    PACKAGES["controller"] / "reconciler.py",
    *sorted((PACKAGES["controller"] / "admin").glob("*.py")),
)

REASON_AT = {
    "LeaveAlone": 0,
    "Forget": 0,
    "Outcome": 0,
    "Wait": 0,
    "Retire": 1,
    "Close": 1,
    "RemoveLeftBridge": 1,
    "Unmoved": 1,
    "give_up": 0,
    "wait": 0,
    "_call_off": 1,
    "_ask": 3,
    "_tell": 2,
}
"""Name of what is called, to the place of the reason among its arguments."""


def module_of(path: Path) -> ModuleType:
    root = next(root for root in PACKAGES.values() if root in path.parents)
    return importlib.import_module(".".join(path.relative_to(root.parent).with_suffix("").parts))


def constants_of(module: ModuleType) -> set[str]:
    return {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


def reasons_in(path: Path) -> set[str]:
    """Find the reasons that stand in a module: given in a call, by a default, or put together before."""
    module, tree = module_of(path), ast.parse(path.read_text())
    return {text for node in ast.walk(tree) for each in expressions(node) for text in texts(each, module)}


def expressions(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments):
            yield from arguments[REASON_AT.get(name, len(arguments)) :][:1]
        case ast.AnnAssign(target=ast.Name("reason"), value=ast.expr() as value):
            yield value
        case ast.Assign(targets=[ast.Name("reason")], value=value):
            yield value


def texts(expression: ast.expr, module: ModuleType) -> Iterator[str]:
    """Read what an expression can be, as far as that stands beside it; a variable is given elsewhere."""
    match expression:
        case ast.Constant(str(text)):
            yield text
        case ast.Name(name) if isinstance(vars(module).get(name), str):
            yield vars(module)[name]
        case ast.IfExp(body=body, orelse=other):
            yield from texts(body, module)
            yield from texts(other, module)
        case ast.JoinedStr([ast.Constant(str(start)), ast.FormattedValue(value)]):
            yield from (f"{start}{rest}" for rest in texts(value, module))


POSSIBLE = {
    *constants_of(protocol),
    *constants_of(plan),
    *constants_of(policy),
    *(f"waiting: {phase}" for phase in Phase),
    *(reason for path in PATHS for reason in reasons_in(path)),
}


def test_reasons_are_found_wherever_they_stand_in_the_code() -> None:
    """The walk over the code finds what it is to find: otherwise the test below would say nothing."""
    literal, default, chosen, named, joined, closing, given_up, hindrance, planned = (
        "not-docker",
        "bridge-left-behind",
        "operator-restores",
        "owner-removed-it",
        "waiting: not-settled",
        "called-off",
        "changed-meanwhile",
        "waiting: in-flight-limit",
        "held",
    )
    assert {literal, default, chosen, named, joined, closing, given_up, hindrance, planned} <= POSSIBLE


@pytest.mark.parametrize("reason", sorted(POSSIBLE))
def test_a_reason_that_a_pass_can_come_to_has_a_meaning(reason: str) -> None:
    assert reason in REASONS


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_reason_with_a_meaning_is_one_that_a_pass_can_come_to(reason: str) -> None:
    assert reason in POSSIBLE


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_meaning_is_one_line_that_goes_on_after_the_reason(reason: str) -> None:
    text = REASONS[reason].text

    assert text.splitlines() == [text.strip()]
    assert not text.endswith(".")


@pytest.mark.parametrize("reason", sorted(FAILURES | {plan.COPY_DAMAGED}))
def test_what_is_not_tried_again_at_once_reads_as_failed(reason: str) -> None:
    assert state_of(reason) is AppState.FAILED


@pytest.mark.parametrize("phase", Phase)
def test_an_lrp_whose_replacement_is_open_reads_as_being_moved(phase: Phase) -> None:
    assert state_of(f"waiting: {phase}") is AppState.MOVING


def test_an_lrp_that_was_moved_reads_as_cached() -> None:
    assert state_of(REPLACED) is AppState.CACHED
