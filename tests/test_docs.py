"""README and documentation against the program: tables, links, configs, and the stories as printed."""

import ast
import asyncio
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.config import load_config
from hack.reference import PAGES, TABLES, TOUR, YEAR, marks_of, timeline, with_current_table
from tests.documents import ROOT, Block, anchors, blocks, blocks_run_by, documents, links

README = ROOT / "README.md"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_that_of_the_code(name: str) -> None:
    """hack/update-docs writes it."""
    text = TABLES[name][0].read_text()

    assert with_current_table(name, text) == text


def test_the_readme_stays_short() -> None:
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        if link.startswith(("https://", "http://127.0.0.1")):
            continue
        target, _, anchor = link.partition("#")
        page = path if not target else (path.parent / target).resolve()
        assert page.exists(), link
        assert not anchor or anchor in anchors(page), link


# Configs


def json_blocks() -> list[Block]:
    return [block for path in documents() for block in blocks(path) if block.language == "json"]


def with_files_below(values: object, directory: Path) -> object:
    """Have the files that a config names in a directory of ours."""
    if isinstance(values, dict):
        return {
            key: file_below(value, directory)
            if key.endswith(("_file", "_path"))
            else with_files_below(value, directory)
            for key, value in values.items()
        }
    return [with_files_below(each, directory) for each in values] if isinstance(values, list) else values


def file_below(name: str, directory: Path) -> str:
    path = directory / name.replace("/", "_")
    path.write_text("something")
    return str(path)


@pytest.mark.parametrize("block", json_blocks(), ids=lambda block: block.where)
def test_a_config_that_is_shown_can_be_used(block: Block, tmp_path: Path) -> None:
    """A part of one is tried with the README's minimal config around it."""
    (minimal,) = (each for each in blocks(README) if each.language == "json")
    values = json.loads(minimal.text)
    shown_values = json.loads(block.text)
    values = shown_values if "bbs_address" in shown_values else values | shown_values
    config = tmp_path / "docker_cache.json"
    config.write_text(json.dumps(with_files_below(values, tmp_path)))

    load_config(config)


# The log


def error_events() -> Iterator[str]:
    """Find the events that are logged as errors, with their scopes."""
    for path in (ROOT / "controller").rglob("*.py"):
        tree, scope = ast.parse(path.read_text()), ""
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "structlog.get_logger":
                scope = ast.literal_eval(call.keywords[0].value)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) in {"log.error", "log.exception", "log.warning", "log.fatal"}:
                yield f"{scope}.{ast.literal_eval(call.args[0])}"


def test_each_event_that_is_explained_is_logged() -> None:
    page = (PAGES / "reference" / "log-events.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "controller").rglob("*.py"))
    explained = re.findall(r"`(\w+)\.([a-z-]+)`", page)

    assert [name for scope, name in explained if f'"{name}"' not in code or f'"{scope}"' not in code] == []


def test_each_error_in_the_log_is_explained() -> None:
    page = (PAGES / "reference" / "log-events.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)

    assert sorted(set(error_events())) == sorted(explained)


# Lines in the logs of apps

DEVELOPERS = PAGES / "for-developers" / "cached-image.md"


def texts_of(module: str) -> str:
    """Join the texts in a module, those around placeholders included."""
    tree = ast.parse((ROOT / module).read_text())
    found = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return "\n".join(text for text in found if isinstance(text, str))


def test_each_line_that_is_explained_to_developers_can_be_read_by_them() -> None:
    modules = ("app_log_lines", "migration_ends", "plain_causes")
    code = "\n".join(texts_of(f"reconcile/{module}.py") for module in modules)
    explained = re.findall(r"^\| (`[^|]+) \|", DEVELOPERS.read_text(), flags=re.MULTILINE)
    phrases = [phrase for cell in explained for phrase in re.findall(r"`([^`]+)`", cell)]
    pieces = [piece.strip() for phrase in phrases for piece in phrase.split("…")]

    assert len(phrases) > 15
    assert [piece for piece in pieces if piece not in code] == []


@pytest.mark.usefixtures("servers")
@pytest.mark.thorough
async def test_the_story_of_the_logs_of_apps_ends_well() -> None:
    """Each line that developers would read is checked there."""
    assert "every step above was checked" in await printed("hack/logs.py")


# Stories

BOX_DRAWING = re.compile(r"[\u2500-\u257f]+")
PARTS_THAT_VARY = (
    (re.compile(r"\S+: (queued|copying, attempt 1 of 12) "), ""),  # seen when it lasts long enough
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "GUID"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f-]*…"), "GUID…"),  # cut to the width of the terminal
    (re.compile(r"/[^ ]*docker-cache-(tour|year)-[^/ ]+"), "DIRECTORY"),
    (re.compile(r"127\.0\.0\.1:[0-9]+"), "ADDRESS"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:]{8}(\+00:00)?"), "TIME"),
    (re.compile(r"\b[0-9]+ (s|min)\b"), "SPAN"),
    (re.compile(r"\bprocess [0-9]+"), "process NUMBER"),
    (re.compile(r"\b[0-9,]+ requests left"), "NUMBER requests left"),
    (re.compile(r"\b[0-9]+ (MiB|days)\b"), "COUNT"),
    (re.compile(r"user [0-9]+"), "user NUMBER"),
    (re.compile(r"\b[0-9]+ (queued|copying), "), ""),  # of jobs that wait for a source
    (re.compile(r"(ok|warning) +sources +docker\.io.*?(?=(ok|warning) +sources)"), ""),
)
"""What differs from run to run, and from one machine to another."""


def words(text: str) -> list[str]:
    """Read what a story says, however it is laid out."""
    flat = " ".join(BOX_DRAWING.sub(" ", re.sub(r"^(#+ |```.*)", "", text, flags=re.MULTILINE)).split())
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


@pytest.mark.slow
@pytest.mark.usefixtures("servers")
@pytest.mark.thorough
async def test_the_commands_print_what_the_tour_shows() -> None:
    """hack/update-docs --tour writes it."""
    assert words(await printed("hack/tour.py")) == words(shown_by(TOUR))


@pytest.mark.slow
@pytest.mark.usefixtures("servers")
@pytest.mark.thorough
async def test_the_commands_print_what_the_year_shows() -> None:
    """hack/update-docs --year writes it; rows of copies stand in the order of GUIDs, which are random."""
    assert sorted(words(await printed("hack/year.py"))) == sorted(words(shown_by(YEAR)))


def shown_by(page: Path) -> str:
    begin, end = marks_of(page)
    return page.read_text().partition(begin)[2].partition(end)[0]


def steps(text: str) -> list[str]:
    """Read the step of each line of a timeline."""
    return re.findall(r"^ +[0-9.]+ s  (.{10})", text, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.usefixtures("servers")
@pytest.mark.thorough
async def test_the_demo_prints_the_steps_that_its_page_shows() -> None:
    """hack/update-docs --demo writes it."""
    assert steps(await printed("hack/demo.py")) == steps(timeline("hack/demo"))


KEPT = "Everything keeps running until Ctrl-C"


@pytest.mark.slow
@pytest.mark.usefixtures("servers")
@pytest.mark.thorough
@pytest.mark.parametrize("command", [each for block in blocks_run_by(__file__) for each in block.commands])
async def test_the_demo_can_be_told_otherwise(command: str) -> None:
    """One of them stays until somebody ends it."""
    process = await asyncio.create_subprocess_exec(
        *command.split(), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    written = ""
    async for line in process.stdout:
        written += line.decode()
        if KEPT in line.decode():
            process.send_signal(signal.SIGINT)

    assert await process.wait() == 0, written
    assert "every step above was checked" in written
    assert (KEPT in written) == ("--keep" in command)


@pytest.mark.slow
@pytest.mark.usefixtures("servers")
@pytest.mark.thorough
async def test_the_story_of_two_instances_prints_the_steps_that_its_page_shows() -> None:
    """hack/update-docs --ha writes it."""
    assert steps(await printed("hack/ha.py")) == steps(timeline("hack/demo --ha"))
