"""Writes what commands found: tables for people on a terminal, one JSON object a line elsewhere."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Row = Mapping[str, Any]
Format = Literal["auto", "json", "table"]

WIDE = 120
"""Columns of a terminal from which tables show more."""

WIDEST = 180
"""Columns of a terminal from which tables show what is long besides."""

STYLES: Mapping[str, str] = {
    "cached": "green",
    "done": "green",
    "ok": "green",
    "whole": "green",
    "copying": "cyan",
    "migrating": "cyan",
    "queued": "yellow",
    "pending": "yellow",
    "warning": "yellow",
    "paused": "yellow",
    "left": "dim",
    "skipped": "dim",
    "failed": "red",
    "problem": "red",
    "damaged": "red",
}
"""State to how it is shown."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: Above it.
        text: Makes a cell of a row.
        is_number: It is aligned to the right.
        least: Columns that a terminal must have to show it.
        is_state: Its texts have colours.
    """

    title: str
    text: Callable[[Row], str]
    is_number: bool = False
    least: int = 0
    is_state: bool = False


class Output:
    """Where a command writes; what draws tables is imported for the first of them."""

    def __init__(self, wanted: Format) -> None:
        self.is_json = wanted == "json" or (wanted == "auto" and not sys.stdout.isatty())

    @cached_property
    def console(self) -> "Console":
        """Standard output, for people."""
        from rich.console import Console

        return Console(highlight=False, soft_wrap=False)

    @cached_property
    def notes(self) -> "Console":
        """Standard error, for people."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    @cached_property
    def has_bars(self) -> bool:
        """Whether progress is drawn."""
        return not self.is_json and self.notes.is_terminal and not self.notes.is_dumb_terminal

    def rows(self, rows: Sequence[Row], columns: Sequence[Column], *, what: str) -> None:
        """Write a list; `what` is the plural noun above a table."""
        if self.is_json:
            self.lines(rows)
            return
        self.console.print(counted(len(rows), what), style="bold")
        if rows:
            self.console.print(table(rows, columns, width=self.console.width))

    def lines(self, rows: Iterable[Row]) -> None:
        """Write JSON lines, each at once: whoever reads may wait for it."""
        for row in rows:
            sys.stdout.write(f"{json.dumps(row)}\n")
            sys.stdout.flush()

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Write names and what they are, one a line."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in pairs:
            grid.add_row(name, Text(text, overflow="fold"))
        self.console.print(grid)

    def say(self, text: str, *, style: str = "") -> None:
        """Write a line for people; nothing where JSON is read."""
        if not self.is_json:
            from rich.text import Text

            self.console.print(Text(text, style=style))

    def note(self, text: str) -> None:
        """Write a line for people beside the output, whoever reads that."""
        from rich.text import Text

        self.notes.print(Text(text))


def table(rows: Sequence[Row], columns: Sequence[Column], *, width: int) -> "Table":
    """Make a table of rows for a terminal of some columns."""
    from rich import box
    from rich.table import Table

    chosen = [column for column in columns if column.least <= width]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in chosen:
        made.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            overflow="fold",
            no_wrap=column.is_number,
        )
    for row in rows:
        made.add_row(*(_cell(column, row) for column in chosen))
    return made


def _cell(column: Column, row: Row) -> "Text":
    from rich.text import Text

    text = column.text(row)
    return Text(text, style=STYLES.get(text, "") if column.is_state else "")


_SINGULARS = {"entries": "entry", "copies": "copy", "source registries": "source registry"}


def counted(count: int, plural: str) -> str:
    """Write how many there are of something, named by its plural."""
    first, space, rest = plural.partition(" to ")
    singular = _SINGULARS.get(first, first.removesuffix("s"))
    return f"{count:,} {singular if count == 1 else first}{space}{rest}"


def size(count: float | None) -> str:
    """Write bytes for people, in powers of ten as registries do."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def ago(at: float | None) -> str:
    """Say how long ago something was."""
    return "never" if at is None else f"{span(time.time() - at)} ago"


def span(seconds: float) -> str:
    """Write a length of time in its largest unit or two."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(at: float | None) -> str:
    """Write a time, in UTC."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
