"""No pattern of the program costs more than a text is long: each is run over 128 KiB of what is worst for it.

The patterns are found by walking the modules, so a new one is tried without anybody thinking of it. What is
measured is the time of this thread on the processor, which does not grow with the load of the machine. A pattern
that is quadratic takes some seconds and more.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import hypothesis
import pytest
from hypothesis import strategies as st

import controller
import reconcile
from controller.doctor import cells

LENGTH = 128 * 1024
MOST_SECONDS = 0.5
"""Time on the processor that one text may take; a linear pattern takes some milliseconds."""

METHODS = frozenset({"match", "fullmatch", "search", "findall", "finditer", "sub", "subn", "split"})
GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

BUILT: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("controller.doctor.cells", "signs"): tuple(signs for signs, _ in cells._ADVICE),
    ("controller.engines.docker_job", "name"): (rf"cache\.example:5000/{GUID}:latest",),
    ("controller.store.restoring", "pattern"): (r"cache\.db\.(restoring|restored)-([0-9A-Za-z-]+?)",),
    ("reconcile.references", "pattern"): (rf"docker-cache:({GUID})", rf"({GUID}):latest"),
}
"""Examples of patterns that are built when they are needed, by module and variable."""

UNITS = (" ", "a", "0", '"', "\\", "/", ":", "@", "<", "-", "x-amz-", "a.", "a=", '="')

Pattern = re.Pattern[str] | re.Pattern[bytes]


@dataclass(frozen=True)
class Use:
    """A pattern, and the method that it is used by."""

    place: str
    pattern: Pattern
    method: str


def modules() -> Iterator[ModuleType]:
    for package in (controller, reconcile):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "schema_versions" not in found.name and not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def patterns_in(value: object) -> Iterator[Pattern]:
    """Find compiled patterns, also those in tuples and the like."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list | frozenset | set):
        for each in value:
            yield from patterns_in(each)
    elif isinstance(value, Mapping):
        yield from patterns_in(tuple(value.values()))


def uses_in(module: ModuleType) -> Iterator[Use]:
    source = inspect.getsource(module)
    single = {name: value for name, value in vars(module).items() if isinstance(value, re.Pattern)}
    grouped = [
        pattern
        for name, value in vars(module).items()
        if name not in single and not name.startswith("__")
        for pattern in patterns_in(value)
    ]
    used_names, handed_methods = set[str](), set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
            owner, place = node.value.id, f"{module.__name__}:{node.lineno}"
            if owner in single:
                used_names.add(owner)
                yield Use(f"{place} {owner}", single[owner], node.attr)
            elif owner == "pattern":
                handed_methods.add(node.attr)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in METHODS
        ):
            place, written = f"{module.__name__}:{node.lineno}", node.args[0]
            if isinstance(written, ast.Name) and written.id not in vars(module):
                for built in BUILT[module.__name__, written.id]:
                    yield Use(place, re.compile(built), node.func.attr)
            else:
                known = eval(compile(ast.Expression(written), place, "eval"), vars(module))
                yield Use(place, re.compile(known), node.func.attr)
    handed = [
        pattern
        for name, pattern in single.items()
        if name not in used_names and re.search(rf"(?m)^{re.escape(name)}\b.*=", source)
    ]
    for pattern in (*grouped, *handed):
        assert handed_methods, (
            f"{module.__name__} hands {pattern.pattern!r} to something that is not `pattern`"
        )
        for method in handed_methods:
            yield Use(f"{module.__name__} {pattern.pattern[:40]!r}", pattern, method)


def run(use: Use, text: str | bytes) -> float:
    """Run a pattern over a text as the program does, and return the time that it took on the processor."""
    started = time.thread_time()
    if use.method in {"sub", "subn"}:
        getattr(use.pattern, use.method)(text[:0], text)
    else:
        result = getattr(use.pattern, use.method)(text)
        if use.method == "finditer":
            for _ in result:
                pass
    return time.thread_time() - started


def parts_of(sample: str | bytes) -> set[str | bytes]:
    """Cut out of a text that fits what may be worst when it is repeated."""
    parts = set[str | bytes]()
    for number in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64):
        parts |= {sample[:number], sample[number // 2 : number], sample[-number:]}
    return {sample, *parts, *(sample[at : at + 1] for at in range(min(len(sample), 12)))} - {sample[:0]}


def worst(use: Use, sample: str | bytes) -> tuple[float, str | bytes]:
    """Run a pattern over texts that nearly fit; return the longest time, and what its text consists of."""
    times = list[tuple[float, str | bytes]]()
    units = (unit.encode() if isinstance(sample, bytes) else unit for unit in UNITS)
    for part in (*parts_of(sample), *units):
        for length in (LENGTH // 32, LENGTH // 4, LENGTH):
            seconds = run(use, repeated(part, length))
            times.append((seconds, part))
            if seconds > MOST_SECONDS or seconds < MOST_SECONDS / 1000:  # a longer text is not tried
                break
    return max(times, key=lambda each: each[0])


def repeated(part: str | bytes, length: int) -> str | bytes:
    """Repeat a text, and end with what fits nothing."""
    count = length // len(part)
    return part * count + b"\x00" if isinstance(part, bytes) else part * count + "\x00"


def all_uses() -> dict[tuple[str | bytes, int, str], Use]:
    return {
        (use.pattern.pattern, use.pattern.flags, use.method): use
        for module in modules()
        for use in uses_in(module)
    }


@pytest.mark.slow
def test_a_pattern_takes_time_by_the_length_of_its_text_and_no_more() -> None:
    uses = all_uses()
    assert len(uses) > 60, "the walk finds the patterns"

    @hypothesis.settings(max_examples=2, phases=[hypothesis.Phase.generate], database=None)
    @hypothesis.seed(7)
    @hypothesis.given(st.data())
    def try_all(data: st.DataObject) -> None:
        for use in uses.values():
            sample = data.draw(st.from_regex(use.pattern))
            assert isinstance(sample, str | bytes)
            seconds, part = worst(use, sample)
            if seconds > MOST_SECONDS:
                slow[f"{use.place} {use.method}"] = f"{seconds:.1f} s for {part!r} again and again"

    slow = dict[str, str]()
    try_all()
    assert not slow


@pytest.mark.parametrize(
    ("pattern", "method", "part", "length"),
    [
        (r"\b(?:token|x-amz-[a-z-]+)=\S", "search", "x-amz-", LENGTH // 4),
        (r"<([^>]*)>;", "finditer", "<a", LENGTH // 4),
        (r"(a+)+b", "match", "a", 24),
    ],
)
def test_the_measure_finds_a_pattern_that_is_not_linear(
    pattern: str, method: str, part: str, length: int
) -> None:
    seconds = run(Use("here", re.compile(pattern), method), repeated(part, length))

    assert seconds > MOST_SECONDS / 16, "four times the length would take sixteen times as long, or more"
