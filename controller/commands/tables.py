"""Lays out rows as plain text, one line each: no text that people copy is folded or cut.

On a terminal that is too narrow, prose is cut first, and then columns are left out, the least important
first. What still does not fit makes its line longer than the terminal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.commands.words import format_size
from reconcile.foreign_text import shown

Row = Mapping[str, Any]

GAP = "  "
MIN_PROSE_WIDTH = 24
"""Characters that prose keeps at least when it is cut."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its heading, and what --columns and --sort call it.
        text: Makes a cell from a row.
        priority: Of columns that may be left out, the greatest number goes first; 0 always stays.
        is_number: Its cells are aligned to the right.
        is_state: Its cells have colours.
        is_prose: Its cells may be cut: nothing that people copy.
        value: What --sort compares; None compares the texts.
    """

    name: str
    text: Callable[[Row], str]
    priority: int = 0
    is_number: bool = False
    is_state: bool = False
    is_prose: bool = False
    value: Callable[[Row], Any] | None = None

    def sort_key(self, row: Row) -> tuple[bool, Any]:
        """Make the key of a row; rows without a value come last."""
        value = self.text(row).lower() if self.value is None else self.value(row)
        return value is None, value


def size_column(priority: int) -> Column:
    """Make the column of how large an image is, which a row has in bytes."""
    return Column(
        "size",
        lambda row: format_size(row["bytes"]),
        priority=priority,
        is_number=True,
        value=lambda row: row["bytes"],
    )


@dataclass(slots=True)
class _SizedColumn:
    """A column with its cells, and the width that they are padded or cut to."""

    column: Column
    cells: list[str]
    width: int

    @property
    def min_width(self) -> int:
        """The least width that it can be cut to."""
        if not self.column.is_prose:
            return self.width
        return min(self.width, max(MIN_PROSE_WIDTH, len(self.column.name)))


def table_lines(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    width: int | None,
    style: Callable[[str, str], str] = lambda text, _: text,
) -> list[str]:
    """Lay out a heading and a line for each row.

    Args:
        rows: What is shown.
        columns: In their order.
        width: Columns of the terminal; None shows everything.
        style: Styles a text by a state, or by "heading".
    """
    sized = [_size(column, rows) for column in columns]
    if width is not None:
        _fit(sized, width)
    heading = GAP.join(_cell(each, each.column.name.upper(), is_last=each is sized[-1]) for each in sized)
    lines = [style(heading.rstrip(), "heading")]
    for number in range(len(rows)):
        cells = list[str]()
        for each in sized:
            text = each.cells[number]
            cell = _cell(each, text, is_last=each is sized[-1])
            cells.append(style(cell, text) if each.column.is_state else cell)
        lines.append(GAP.join(cells).rstrip())
    return lines


def _size(column: Column, rows: Sequence[Row]) -> _SizedColumn:
    cells = [shown(column.text(row)) for row in rows]  # texts come from tenants too
    return _SizedColumn(column, cells, max(len(column.name), *map(_width, cells)))


def _fit(sized: list[_SizedColumn], width: int) -> None:
    """Leave out columns without content, then cut prose and leave out columns until the lines fit."""
    for each in [each for each in sized if each.column.priority and not any(each.cells)]:
        sized.remove(each)
    while sum(each.min_width for each in sized) + len(GAP) * (len(sized) - 1) > width:
        dropped = max(sized, key=lambda each: each.column.priority)
        if not dropped.column.priority:
            break
        sized.remove(dropped)
    excess = sum(each.width for each in sized) + len(GAP) * (len(sized) - 1) - width
    for each in sorted(sized, key=lambda each: -each.width):
        cut = max(0, min(excess, each.width - each.min_width))
        each.width -= cut
        excess -= cut


def _cell(sized: _SizedColumn, text: str, *, is_last: bool) -> str:
    if _width(text) > sized.width:
        text = _cut(text, sized.width - 1) + "…"
    padding = " " * (sized.width - _width(text))
    if sized.column.is_number:
        return padding + text
    return text if is_last else text + padding


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    while _width(text) > width:
        text = text[:-1]
    return text
