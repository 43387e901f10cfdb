"""The README against the program: its tables, and the commands as printed."""

import asyncio
import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from controller.cli import COMMANDS
from controller.config import Config, RegistryConfig, RunningRuleConfig, TrafficConfig
from reconcile.phases import PHASES
from reconcile.reasons import Reason

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def configuration_table(model: type[BaseModel] = Config) -> str:
    """Write a model's settings as the README shows them."""
    rows = ["| key | meaning | default |", "| --- | --- | --- |"]
    for key, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{key}` | {meaning} | {_default(field.default)} |")
    return "\n".join(rows)


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or value == ():
        return "none"
    if isinstance(value, float):
        return f'`"{value:g}s"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= 1 << 30:
        return f'`"{value >> 30}GiB"`'
    if isinstance(value, tuple):
        return f'`["{value[0]}"]`'
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def layout_table() -> str:
    """Write the rooms of the program, each with the first sentence of its own text."""
    paths = [
        path
        for package in ("reconcile", "controller")
        for path in sorted((ROOT / package).iterdir())
        if path.name not in {"__init__.py", "__pycache__"} and (path.is_dir() or path.suffix == ".py")
    ]
    rows = ["| room | what it does |", "| --- | --- |"]
    for path in paths:
        text = (path / "__init__.py" if path.is_dir() else path).read_text()
        sentence = " ".join(text.removeprefix('"""').partition('"""')[0].partition("\n\n")[0].split())
        rows.append(f"| `{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}` | {sentence} |")
    return "\n".join(rows)


def phases_table() -> str:
    """Write the migration protocol."""
    rows = ["| phase | effect | completed by | otherwise | limit |", "| --- | --- | --- | --- | --- |"]
    for phase, rule in PHASES.items():
        rows.append(f"| `{phase}` | {rule.effect} | {rule.completed_by} | {rule.undone_by} | {rule.limit} |")
    return "\n".join(rows)


def commands_table() -> str:
    """Write the commands, each with the first sentence of its help."""
    rows = ["| command | what it does |", "| --- | --- |"]
    for name, place in COMMANDS.items():
        rows.append(f"| `{name}` | {place.help} |")
    return "\n".join(rows)


def reasons_table() -> str:
    """Write what reasons mean."""
    rows = ["| reason | state | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{reason}` | {reason.state} | {reason.meaning} |" for reason in Reason]
    return "\n".join(rows)


TABLES = {
    "commands": commands_table,
    "reasons": reasons_table,
    "phases": phases_table,
    "running-rules": lambda: configuration_table(RunningRuleConfig),
    "configuration": configuration_table,
    "registry-configuration": lambda: configuration_table(RegistryConfig),
    "traffic-configuration": lambda: configuration_table(TrafficConfig),
    "layout": layout_table,
}


def with_current_tables(text: str) -> str:
    """Put the tables as the code has them between their marks, each of which is there once."""
    for name, write in TABLES.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
        assert begin, f"the README has no beginning of {name}"
        assert end, f"the README has no end of {name}"
        text = f"{before}{begin}{write()}\n{end}{after}"
    return text


def test_the_tables_are_those_of_the_code() -> None:
    """hack/update-readme writes them."""
    assert with_current_tables(README) == README


def test_every_section_is_there() -> None:
    sections = re.findall(r"^## (.*)$", README, flags=re.MULTILINE)

    assert sections == [
        "Quick start",
        "How it works",
        "What an app notices",
        "Commands",
        "Configuration",
        "Engines",
        "Speed",
        "Layout",
        "Checking",
        "Limits",
    ]


ROOM_FOR_NOTHING = re.compile(r"[\u2500-\u257f]+")
PARTS_THAT_VARY = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "GUID"),
    (re.compile(r"/[^ ]*docker-cache-tour-[^/ ]+"), "DIRECTORY"),
    (re.compile(r"127\.0\.0\.1:[0-9]+"), "ADDRESS"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:]{8}(\+00:00)?"), "TIME"),
    (re.compile(r"\b[0-9]+ (s|min)\b"), "SPAN"),
    (re.compile(r"\bprocess [0-9]+"), "process NUMBER"),
    (re.compile(r"\b[0-9]+ (MiB|days)\b"), "COUNT"),
    (re.compile(r"user [0-9]+"), "user NUMBER"),
    (re.compile(r"(ok|warning) +sources +docker\.io.*?(?=(ok|warning) +sources)"), ""),
)
"""What differs from run to run, and from one machine to another."""


def words(text: str) -> list[str]:
    """Read what a tour says, however it is laid out."""
    flat = " ".join(ROOM_FOR_NOTHING.sub(" ", text).split())
    for part, name in PARTS_THAT_VARY:
        flat = part.sub(name, flat)
    return flat.split()


async def printed(script: str) -> str:
    """Run one of the stories, and give what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        cwd=ROOT,
        env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.usefixtures("servers")
async def test_the_commands_print_what_the_readme_shows() -> None:
    shown = README.partition("$ hack/demo --tour\n")[2].partition("```")[0]

    assert words(await printed("hack/tour.py")) == words(shown)


def steps(text: str) -> list[str]:
    """Read the step of each line of a timeline."""
    return re.findall(r"^ +[0-9.]+ s  (.{10})", text, flags=re.MULTILINE)


@pytest.mark.usefixtures("servers")
async def test_the_demo_tells_what_the_readme_prints() -> None:
    shown = README.partition("$ hack/demo\n")[2].partition("```")[0]

    assert steps(await printed("hack/demo.py")) == steps(shown)
