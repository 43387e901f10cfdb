"""Reads README and documentation as tests look at them: their fenced blocks, links and headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "pages"

_FENCE = re.compile(r"^( *)```(\S*)$")
_BEGIN_OF_STORY = ("<!-- tour -->", "<!-- year -->")
_END_OF_STORY = ("<!-- end of tour -->", "<!-- end of year -->")
_NOT_RUN = re.compile(r"^ *<!-- not run: (.+) -->$")
_RUN_BY = re.compile(r"^ *<!-- run by: (.+) -->$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INLINE_CODE = re.compile(r"`([^`\n]*[^`\s][^`\n]*)`")
_HEADING = re.compile(r"^#+ (.*)$", flags=re.MULTILINE)
_GIVEN_ANCHOR = re.compile(r"\{ #(\S+) \}")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        where: Page and line, for people.
        language: What stands behind its fence.
        not_run: Why its commands are not run; empty when they are.
        run_by: The test module that runs its commands, below the root; empty for one that runs with all others.
        is_of_story: It is part of what a story with commands prints.
    """

    where: str
    language: str
    lines: tuple[str, ...]
    not_run: str
    run_by: str
    is_of_story: bool = False

    @property
    def text(self) -> str:
        """What it holds."""
        return "\n".join(self.lines)

    @property
    def commands(self) -> tuple[str, ...]:
        """What somebody types, each with the lines in which it goes on."""
        typed = list[str]()
        goes_on = False
        for line in self.lines:
            if goes_on:
                typed[-1] += f"\n{line}"
            elif line.startswith("$ "):
                typed.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\") and (goes_on or line.startswith("$ "))
        return tuple(typed)


def documents() -> tuple[Path, ...]:
    """List README and its neighbors, and every page."""
    return (*sorted(ROOT.glob("*.md")), *sorted(PAGES.rglob("*.md")))


def blocks(path: Path) -> Iterator[Block]:
    """Read the fenced blocks of a document, in their order."""
    begun: tuple[int, str, str, str, str] | None = None
    held, before, is_of_story = list[str](), "", False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        is_of_story = line in _BEGIN_OF_STORY or (is_of_story and line not in _END_OF_STORY)
        if begun is None:
            if fence:
                begun, held = (
                    (number, fence[1], fence[2], _mark(_NOT_RUN, before), _mark(_RUN_BY, before)),
                    [],
                )
        elif fence and fence[1] == begun[1] and not fence[2]:
            where = f"{path.relative_to(ROOT)}:{begun[0]}"
            lines = tuple(each.removeprefix(begun[1]) for each in held)
            yield Block(where, begun[2], lines, *begun[3:], is_of_story)
            begun = None
        else:
            held.append(line)
        before = line


def _mark(pattern: re.Pattern[str], line: str) -> str:
    """Read what a line above a block says of it."""
    found = pattern.match(line)
    return found[1] if found else ""


def blocks_run_by(module: str) -> tuple[Block, ...]:
    """Find the blocks that a test module has to run, by its `__file__`."""
    name = Path(module).relative_to(ROOT).as_posix()
    return tuple(block for path in documents() for block in blocks(path) if block.run_by == name)


def links(path: Path) -> Iterator[str]:
    """Read where a document's links lead to, those in blocks left out."""
    yield from _LINK.findall(_without_blocks(path))


def inline_code(path: Path) -> Iterator[str]:
    """Read what stands between backticks in the sentences and tables of a document."""
    yield from _INLINE_CODE.findall(_without_blocks(path))


def _without_blocks(path: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> frozenset[str]:
    """Read which places of a document can be linked to."""
    text = path.read_text()
    headings = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in _HEADING.findall(text))
    return frozenset((*(heading.replace(" ", "-") for heading in headings), *_GIVEN_ANCHOR.findall(text)))
