"""Writes what follows from the code between two marks: tables of the documentation, keys of the BOSH job.

Started by hack/update-docs; tests/test_docs.py compares what it writes with what the pages hold.
"""

import argparse
import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import click
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from controller.cli import commands
from controller.config import (
    Config,
    FairSharesConfig,
    FormerRegistryConfig,
    LoggregatorConfig,
    RegistryConfig,
    RunningRuleConfig,
    SourceRegistryConfig,
    TrafficConfig,
    descriptions_of,
)
from controller.config.example import written_default
from controller.config.sections import Section
from controller.config.values import parse_duration
from controller.metrics import Metrics
from controller.metrics.families import PREFIX, Open, Reach, Values
from hack import alert_cases, alerts, bosh_job
from hack.grafana import document
from hack.proto_reference import admin_api
from reconcile.answers import RULES, Side
from reconcile.failure_kinds import FailureKind
from reconcile.phases import PHASES
from reconcile.reasons import AppState, Reason

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "pages"
DEMO = PAGES / "tutorial" / "demo.md"
TOUR = PAGES / "tutorial" / "tour.md"
YEAR = PAGES / "tutorial" / "year.md"
METRICS = PAGES / "reference" / "metrics.md"
HA = PAGES / "how-to" / "several-instances.md"
TIMELINES: Mapping[str, Path] = {"hack/demo": DEMO, "hack/demo --ha": HA}
"""Stories that print a timeline, and the pages that show it."""

_SUBJECTS = {
    "admin_address": "Admin API",
    "uuid": "Active instance",
    "cloud_controller_api_url": "Cloud Controller",
    "metrics_address": "Metrics",
    "log_level": "Process",
    "bbs_address": "BBS",
    "database_url": "Store",
    "cache_registry": "Private registry",
    "registries": "Source registries",
    "cache": "Which images",
    "engine": "Copying",
    "max_in_flight": "Migrating",
}
"""The first key of each subject, in the order of the config."""


def configuration() -> str:
    """Write the config's keys by subject."""
    keys, lines = tuple(Config.model_fields), list[str]()
    starts = [*(keys.index(key) for key in _SUBJECTS), len(keys)]
    for subject, start, end in zip(_SUBJECTS.values(), starts, starts[1:], strict=False):
        lines += [f"## {subject}", "", _keys_table(Config, keys[start:end]), ""]
    return "\n".join(lines).rstrip()


def _keys_table(model: type[Section], keys: tuple[str, ...] = ()) -> str:
    rows = ["| key | meaning | default |", "| --- | --- | --- |"]
    descriptions = descriptions_of(model)
    for key in keys or model.model_fields:
        field = model.model_fields[key]
        rows.append(f"| `{key}` | {_cell(descriptions[key])} | {_default(field)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value == () or isinstance(value, BaseModel):
        return "none"
    if isinstance(value, float) and any(
        isinstance(each, BeforeValidator) and each.func is parse_duration for each in field.metadata
    ):
        return f'`"{written_default(field)}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= 1 << 30:
        return f'`"{value >> 30}GiB"`'
    if isinstance(value, tuple):
        return f'`["{value[0]}"]`'
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def phases() -> str:
    """Write the migration protocol."""
    rows = ["| phase | effect | completed by | otherwise | limit |", "| --- | --- | --- | --- | --- |"]
    for phase, rule in PHASES.items():
        cells = (rule.effect, rule.completed_by, rule.undone_by, rule.limit)
        rows.append(f"| `{phase}` | {' | '.join(map(_cell, cells))} |")
    return "\n".join(rows)


_RUN_APART = {"run", "restore-backup"}
"""Commands whose examples need a test of their own: they start the daemon, or replace its database."""
_TEST_APART = "tests/daemon/test_documented_operation.py"

_STATES: Mapping[AppState, str] = {
    AppState.CACHED: "At least one of its instances runs from its copy; a droplet names its copy.",
    AppState.PENDING: "Something is to be done for it.",
    AppState.MIGRATING: "It is being migrated now.",
    AppState.WAITING: "It stays as it is until something outside the daemon changes.",
    AppState.SKIPPED: "It stays on its source, because somebody decided so, or because it is none of ours.",
    AppState.FAILED: "Something went wrong.",
}


def reasons() -> str:
    """Write what reasons mean, by state."""
    lines = list[str]()
    for state, text in _STATES.items():
        lines += [f"## {state}", "", text, "", "| reason | meaning |", "| --- | --- |"]
        lines += [f"| `{each}` | {_cell(each.meaning)} |" for each in Reason if each.state is state]
        lines.append("")
    return "\n".join(lines).rstrip()


def registry_answers() -> str:
    """Write the table of answers of registries, in the order in which its rules are asked."""
    rows = [
        "| request | status | code | verdict | what the program does | operator | app developer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for rule in RULES:
        sides = "" if len(rule.sides) == len(Side) else f"{next(iter(rule.sides))}: "
        status = statuses_text(rule.statuses) or "any"
        cells = (
            f"{sides}{_any_of(rule.calls)}",
            f"{status}, naming a time" if rule.names_a_time else status,
            _any_of(f"`{code}`" for code in rule.codes),
            f"**{rule.verdict}**",
            rule.way,
            rule.operator,
            rule.developer,
        )
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(rows)


def statuses_text(statuses: Iterable[int]) -> str:
    """Write statuses for people, with ranges for those in a row."""
    parts = list[list[int]]()
    for status in sorted(statuses):
        if parts and parts[-1][1] == status - 1:
            parts[-1][1] = status
        else:
            parts.append([status, status])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def _any_of(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "any"


def metrics() -> str:
    """Write the names, kinds and labels of all metrics."""
    rows = ["| metric | kind | labels | instances | meaning |", "| --- | --- | --- | --- | --- |"]
    for family in Metrics().declared:
        labels = ", ".join(f"`{each}`" for each in family.labels)
        reach = "all" if family.reach is Reach.EVERY or family.kind != "gauge" else "active"
        cells = f"{family.kind} | {labels} | {reach} | {_cell(family.documentation)}"
        rows.append(f"| `{family.name}` | {cells} |")
    return "\n".join(rows)


def label_values() -> str:
    """Write the values of all labels, each list of values once."""
    rows, of_values = ["| label | of | values |", "| --- | --- | --- |"], dict[tuple[str, str], list[str]]()
    for family in Metrics().declared:
        for label, values in family.labels.items():
            of_values.setdefault((label, _values_text(label, values)), []).append(family.name)
    for (label, text), names in of_values.items():
        shown = ", ".join(f"`{name.removeprefix(PREFIX)}`" for name in names)
        rows.append(f"| `{label}` | {shown} | {text} |")
    return "\n".join(rows)


def failure_kinds() -> str:
    """Write what kinds of failures mean."""
    rows = ["| kind | means |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{kind}` | {_cell(kind.meaning)} |" for kind in FailureKind)])


def _values_text(label: str, values: Values) -> str:
    if isinstance(values, Open):
        return values.words
    if values == tuple(FailureKind):
        return "[kinds of failures](#kinds-of-failures)"
    if label == "reason":
        return "[reasons](reasons.md)"
    if label in {"version", "python"}:
        return "one"
    return ", ".join(f"`{each}`" for each in values)


def command_reference() -> str:
    """Write every command: an overview, then its usage, its help, its options and examples."""
    every = every_command()
    lines = ["| command | what it does |", "| --- | --- |"]
    for name, command in every:
        anchor = name.replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {_cell(command.get_short_help_str(200))} |")
    for name, command in every:
        lines += ["", *_command(name, command)]
    return "\n".join(lines)


def every_command() -> tuple[tuple[str, click.Command], ...]:
    """List the commands that can be run, each with its whole name."""
    return tuple(_commands_of(commands, ()))


def _commands_of(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise AssertionError(f"{name} is listed and not there")
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from _commands_of(command, (*path, name))


def _command(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"diego-docker-cache {name}")
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    lines = [f"## {name}", "", "```text", usage, "```", ""]
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        lines += [*_paragraph(paragraph, name), ""]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        lines += ["| option | meaning |", "| --- | --- |"]
        lines += [_option(option, context) for option in options]
    return lines


def _paragraph(text: str, name: str) -> list[str]:
    """Write a paragraph of a help text; one that is kept as it is holds examples."""
    if not re.match(r"(\x08|\\b)\n", text):
        return [" ".join(text.split())]
    examples = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    shown = [f"$ {line}" for line in examples if not line.endswith(":")]
    mark = [f"<!-- run by: {_TEST_APART} -->"] if name in _RUN_APART else []
    return [*mark, "```console", *shown, "```"]


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = option.make_metavar(context)
    value = "" if option.is_flag or option.count else f" `{_cell(kind)}`"
    environment = f" Or by `{option.envvar}`." if option.envvar else ""
    required = " Required." if option.required else ""
    return f"| {names}{value} | {_cell(option.help or '')}{environment}{required} |"


def modules() -> str:
    """Write the modules of the program, each with the first sentence of its own text."""
    paths = [
        path
        for package in ("reconcile", "controller")
        for path in sorted((ROOT / package).iterdir())
        if path.name not in {"__init__.py", "__pycache__"} and (path.is_dir() or path.suffix == ".py")
    ]
    rows = ["| module | what it does |", "| --- | --- |"]
    for path in paths:
        text = (path / "__init__.py" if path.is_dir() else path).read_text()
        sentence = _cell((ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0])
        rows.append(f"| `{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}` | {sentence} |")
    return "\n".join(rows)


TABLES: Mapping[str, tuple[Path, Callable[[], str]]] = {
    "configuration": (PAGES / "reference/configuration.md", configuration),
    "registry-configuration": (PAGES / "reference/configuration.md", lambda: _keys_table(RegistryConfig)),
    "source-registry-configuration": (
        PAGES / "reference/configuration.md",
        lambda: _keys_table(SourceRegistryConfig, ("allowed_networks",)),
    ),
    "former-registry-configuration": (
        PAGES / "reference/configuration.md",
        lambda: _keys_table(FormerRegistryConfig, ("repository_template",)),
    ),
    "loggregator-configuration": (
        PAGES / "reference/configuration.md",
        lambda: _keys_table(LoggregatorConfig),
    ),
    "fair-shares-configuration": (
        PAGES / "reference/configuration.md",
        lambda: _keys_table(FairSharesConfig),
    ),
    "traffic-configuration": (PAGES / "reference/configuration.md", lambda: _keys_table(TrafficConfig)),
    "running-rules": (PAGES / "reference/configuration.md", lambda: _keys_table(RunningRuleConfig)),
    "commands": (PAGES / "reference/commands.md", command_reference),
    "reasons": (PAGES / "reference/reasons.md", reasons),
    "registry-answers": (PAGES / "reference/registry-answers.md", registry_answers),
    "metrics": (METRICS, metrics),
    "failure-kinds": (PAGES / "reference/metrics.md", failure_kinds),
    "metric-labels": (METRICS, label_values),
    "alerts": (METRICS, lambda: "\n".join(alerts.table(METRICS))),
    "admin-api": (PAGES / "reference/admin-api.md", admin_api),
    "phases": (PAGES / "explanation/migration.md", phases),
    "bosh-properties": (PAGES / "how-to/bosh.md", bosh_job.differences),
    "modules": (ROOT / "CONTRIBUTING.md", modules),
}
"""What is written from the code: the name of its marks, the page, and what writes it."""


FILES: Mapping[Path, Callable[[], str]] = {
    alerts.RULES: alerts.rules,
    alert_cases.TESTS: alert_cases.tests,
    alert_cases.SLOW_TESTS: alert_cases.slow_tests,
    document.DASHBOARD: document.grafana_json,
}
"""Files that are written as a whole, and what writes them."""


def with_current_table(name: str, text: str) -> str:
    """Put a table as the code has it between its marks, which a page has once.

    Raises:
        ValueError: A mark is missing.
    """
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    if not begin or not end:
        raise ValueError(f"no marks of {name}")
    return f"{before}{begin}{TABLES[name][1]()}\n{end}{after}"


def timeline(command: str) -> str:
    """Read what the page of a story shows as its timeline."""
    return TIMELINES[command].read_text().partition(f"$ {command}\n")[2].partition("```")[0]


def with_timeline(command: str, printed: str) -> str:
    """Put what a story prints as its timeline into its page."""
    before, begin, rest = TIMELINES[command].read_text().partition(f"$ {command}\n")
    return f"{before}{begin}{printed.rstrip()}\n```{rest.partition('```')[2]}"


def marks_of(page: Path) -> tuple[str, str]:
    """Name the lines of a page between which stands what a story with commands prints."""
    return f"<!-- {page.stem} -->\n", f"<!-- end of {page.stem} -->\n"


def with_story(page: Path, printed: str) -> str:
    """Put what a story with commands prints into its page: a section for each of its parts."""
    begin, end = marks_of(page)
    before, _, rest = page.read_text().partition(begin)
    sections = "\n\n".join(map(_section, _parts(printed)))
    return f"{before}{begin}{sections}\n{end}{rest.partition(end)[2]}"


def _parts(printed: str) -> list[list[str]]:
    """Part what a story prints where lines that begin with "#" begin."""
    parts, before = list[list[str]](), ""
    for line in printed.splitlines():
        if line.startswith("# ") and not before.startswith("# "):
            parts.append([])
        parts[-1].append(line)
        before = line
    return parts


def _section(lines: list[str]) -> str:
    title, *said = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    typed = "\n".join(line for line in lines if not line.startswith("# "))
    blocks = (each.strip() for each in re.split(r"^(?=\$ )", typed, flags=re.MULTILINE))
    shown = [f"```console\n{each}\n```" for each in blocks if each]
    return "\n\n".join((f"## {title}", textwrap.fill(" ".join(said), 118), *shown))


def _printed_by(script: str) -> str:
    return subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    """Write all tables, and the stories when asked for."""
    parser = argparse.ArgumentParser(prog="hack/update-docs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--demo", action="store_true", help="also run the demo, and show what it prints")
    parser.add_argument("--tour", action="store_true", help="also run the tour, and show what it prints")
    parser.add_argument("--year", action="store_true", help="the same with the story of a year")
    parser.add_argument("--ha", action="store_true", help="the same with the story of two instances")
    arguments = parser.parse_args()
    for name, (page, _) in TABLES.items():
        page.write_text(with_current_table(name, page.read_text()))
    for path, write in FILES.items():
        path.write_text(write())
    for path in bosh_job.WRITTEN:
        path.write_text(bosh_job.with_current_part(path, path.read_text()))
    if arguments.demo:
        DEMO.write_text(with_timeline("hack/demo", _printed_by("hack/demo.py")))
    if arguments.tour:
        TOUR.write_text(with_story(TOUR, _printed_by("hack/tour.py")))
    if arguments.year:
        YEAR.write_text(with_story(YEAR, _printed_by("hack/year.py")))
    if arguments.ha:
        HA.write_text(with_timeline("hack/demo --ha", _printed_by("hack/ha.py")))


if __name__ == "__main__":
    main()
