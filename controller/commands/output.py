"""Writes the results of commands: text for people, or one JSON object per line for programs."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import click

from controller.commands.tables import Column, Row, table_lines
from controller.commands.words import format_count
from reconcile.foreign_text import shown

if TYPE_CHECKING:
    from rich.console import Console

Format = Literal["text", "json"]

STYLES: Mapping[str, Mapping[str, Any]] = {
    **{state: {"fg": "green"} for state in ("cached", "done", "ok", "adopted", "patched")},
    **{state: {"fg": "cyan"} for state in ("copying", "migrating", "patching", "restoring")},
    **{
        state: {"fg": "yellow"}
        for state in ("queued", "pending", "waiting", "warning", "unreadable", "reserved")
    },
    **{state: {"fg": "red"} for state in ("failed", "problem", "corrupt", "missing", "unknown")},
    **{state: {"dim": True} for state in ("skipped", "restored", "left")},
    "heading": {"bold": True},
    "advice": {"italic": True},
}
"""The style of each state, and of headings and advice."""


@dataclass(frozen=True, slots=True)
class View:
    """How a listing is shown.

    Attributes:
        is_wide: Whether all columns are shown, and none is shortened.
        columns: Names of the columns to show; empty shows those that fit.
        sort: Name of the column to sort by; empty keeps the order.
        is_descending: Whether the greatest comes first.
    """

    is_wide: bool = False
    columns: tuple[str, ...] = ()
    sort: str = ""
    is_descending: bool = False


class Output:
    """The streams that a command writes to.

    Attributes:
        width: The terminal's width in characters; None when standard output is not a terminal.
        has_colours: Whether text on standard output is styled.
        has_bars: Whether progress bars are shown on standard error.
    """

    def __init__(self, wanted: Format, view: View | None = None) -> None:
        self.is_json = wanted == "json"
        self.view = View() if view is None else view
        is_dumb = os.environ.get("TERM", "").lower() in {"dumb", "unknown"}
        is_terminal = sys.stdout.isatty()
        self.width = shutil.get_terminal_size().columns if is_terminal else None
        self.has_colours = is_terminal and not is_dumb and not os.environ.get("NO_COLOR")
        self.has_bars = not self.is_json and sys.stderr.isatty() and not is_dumb

    @cached_property
    def bars(self) -> "Console":
        """The console for progress bars; notes appear above the bars."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def listing(self, rows: Sequence[Row], columns: Sequence[Column], *, what: str) -> None:
        """Write rows, sorted as the view says, below their number; `what` is the plural noun for them."""
        if self.is_json:
            self.json_lines(self._sorted(rows, columns))
            return
        self.say(format_count(len(rows), what), style="heading")
        for line in self.table(rows, columns):
            click.echo(line)

    def table(self, rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
        """Lay out rows, sorted as the view says, in the columns that it names, or else in those that fit."""
        if not rows:
            return []
        rows, by_name = self._sorted(rows, columns), {column.name: column for column in columns}
        columns = [by_name[name] for name in self.view.columns] or columns
        is_unlimited = self.width is None or self.view.is_wide or bool(self.view.columns)
        return table_lines(rows, columns, width=None if is_unlimited else self.width, style=self.styled)

    def _sorted(self, rows: Sequence[Row], columns: Sequence[Column]) -> Sequence[Row]:
        for column in columns:
            if column.name == self.view.sort:
                return sorted(rows, key=column.sort_key, reverse=self.view.is_descending)
        return rows

    def json_lines(self, rows: Iterable[Row]) -> None:
        """Write each row as a line of JSON, and flush it, since a reader may wait for the line."""
        for row in rows:
            sys.stdout.write(f"{json.dumps(row)}\n")
            sys.stdout.flush()

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Write names with their texts, one per line."""
        for line in self.pair_lines(tuple(pairs)):
            click.echo(line)

    def pair_lines(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Lay out names with their texts; a long text is wrapped between words on a terminal."""
        pairs = [(shown(name), text) for name, text in pairs]
        indent = max((len(name) for name, _ in pairs), default=0) + 2
        lines = list[str]()
        for name, text in pairs:
            first, *rest = self._wrapped(shown(text), indent)
            lines.append(f"{self.styled(name.ljust(indent), 'heading')}{first}".rstrip())
            lines += [" " * indent + line for line in rest]
        return lines

    def _wrapped(self, text: str, indent: int) -> list[str]:
        if self.width is None:
            return [text]
        width = max(self.width - indent, 20)
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]

    def finding(self, level: str, name: str, text: str, advice: str) -> None:
        """Write one finding of a check: level, name and text, with the advice below the text."""
        heads = f"{shown(level):<9}", f"{shown(name):<16}"
        head = self.styled(heads[0], level) + self.styled(heads[1], "heading")
        indent = sum(map(len, heads))
        first, *rest = self._wrapped(shown(text), indent)
        click.echo(head + first)
        for line in rest:
            click.echo(" " * indent + line)
        for line in self._wrapped(shown(advice), indent) if advice else ():
            click.echo(" " * indent + self.styled(line, "advice"))

    def say(self, text: str = "", *, style: str = "") -> None:
        """Write a text for people, wrapped between words on a terminal; nothing with `--output json`."""
        for line in () if self.is_json else self._wrapped(shown(text), 0):
            click.echo(self.styled(line, style))

    def note(self, text: str) -> None:
        """Write a line for people to standard error, also with `--output json`."""
        if "bars" in self.__dict__:
            self.bars.print(shown(text), soft_wrap=True, markup=False, emoji=False)
        else:
            click.echo(shown(text), err=True)

    def styled(self, text: str, style: str) -> str:
        """Style a text when standard output has colours."""
        known = STYLES.get(style)
        return click.style(text, **known) if self.has_colours and known else text
