"""Shows the dashboard as text: what Grafana would show of it, with the answers of a Prometheus.

It reads the JSON that Grafana reads, so that what is wrong there is seen here as well.
"""

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hack.grafana.panels import value_column
from hack.grafana.prometheus import Series

_WIDTH = 118
_STRIPES = 48
"""How many marks a line over time has at most."""
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_LEVELS = " ▁▂▃▄▅▆▇█"


class QueryApi(Protocol):
    """The queries that a Prometheus answers."""

    def ask(self, expr: str, at: float) -> list[Series]:
        """Say what holds at a moment."""

    def ask_over_time(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Say what held from one moment to another, in steps of so many seconds."""


@dataclass(frozen=True, slots=True)
class PanelQueries:
    """What Prometheus is asked about: one job, for so many seconds, until one moment."""

    prometheus: QueryApi
    job: str
    at: float
    seconds: float

    def now(self, target: Mapping[str, Any]) -> list[Series]:
        """Ask a target for what holds at the end."""
        return self.prometheus.ask(self._filled(target["expr"]), self.at)

    @property
    def marks(self) -> int:
        """How many marks a line over time has: one for a second at most."""
        return max(1, min(_STRIPES, int(self.seconds)))

    def over_time(self, target: Mapping[str, Any]) -> list[Series]:
        """Ask a target for the whole time."""
        step = self.seconds / self.marks
        return self.prometheus.ask_over_time(
            self._filled(target["expr"]), self.at - self.seconds + step, self.at, step
        )

    def place_of(self, at: float) -> int:
        """Say where in a line a moment is."""
        first = self.at - self.seconds
        return min(self.marks - 1, max(0, round((at - first) / self.seconds * self.marks) - 1))

    def _filled(self, expr: str) -> str:
        for name, value in (
            ("$__rate_interval", f"{max(4, math.ceil(self.seconds / _STRIPES) + 1)}s"),
            ("$__range", f"{math.ceil(self.seconds)}s"),
            ("$platform", ".*"),
            ("$job", self.job),
        ):
            expr = expr.replace(name, value)
        return expr


def show(document: Mapping[str, Any], queries: PanelQueries, *, rows: Sequence[str] = ()) -> str:
    """Show rows of the dashboard, all of them if none is named by its first words."""
    lines, is_shown = list[str](), False
    for panel in document["panels"]:
        if panel["type"] == "row":
            is_shown = not rows or any(panel["title"].startswith(each) for each in rows)
            if is_shown:
                lines += ["", f"== {panel['title']} =="]
        elif is_shown:
            lines += _panel(panel, queries)
    return "\n".join(lines).lstrip("\n") + "\n"


def _panel(panel: Mapping[str, Any], queries: PanelQueries) -> Iterator[str]:
    drawn = list(_DRAWN[panel["type"]](panel, queries))
    empty = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    match drawn:
        case []:
            yield f"{panel['title']}: ({empty})"
        case [line] if not line.startswith(" "):
            yield f"{panel['title']}: {line}"
        case _:
            yield f"{panel['title']}:"
            yield from drawn


def _numbers(panel: Mapping[str, Any], queries: PanelQueries) -> Iterator[str]:
    found = [
        (_name(target, series), _shown(panel["fieldConfig"]["defaults"], series.last))
        for target in panel["targets"]
        for series in queries.now(target)
    ]
    if not found:
        return
    alone = len(found) == 1 and not found[0][0]
    yield found[0][1] if alone else " · ".join(f"{name} {value}" for name, value in found)


def _lines(panel: Mapping[str, Any], queries: PanelQueries) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    found = [
        (_name(target, series), series) for target in panel["targets"] for series in queries.over_time(target)
    ]
    highest = max(
        (value for _, series in found for _, value in series.points if math.isfinite(value)), default=0.0
    )
    for name, series in found:
        values = [value for _, value in series.points if not math.isnan(value)]
        if values:
            drawn = _strip(series, queries, lambda value: _LEVELS[_level(value, highest)])
            yield f"  {drawn}  {_shown(defaults, values[-1])}  {name}"


def _level(value: float, highest: float) -> int:
    if math.isnan(value) or value <= 0 or highest <= 0:
        return 1
    return max(1, round(min(1.0, value / highest) * (len(_LEVELS) - 1)))


def _strip(series: Series, queries: PanelQueries, mark: Callable[[float], str]) -> str:
    marks = [" "] * queries.marks
    for at, value in series.points:
        marks[queries.place_of(at)] = mark(value)
    return f"|{''.join(marks)}|"


def _history(panel: Mapping[str, Any], queries: PanelQueries) -> Iterator[str]:
    for target in panel["targets"]:
        for series in queries.over_time(target):
            drawn = _strip(series, queries, lambda value: "▒█"[value > 1])
            yield f"  {drawn}  {_name(target, series)}"


def _table(panel: Mapping[str, Any], queries: PanelQueries) -> Iterator[str]:
    """Merge the rows of all queries by their labels, as Grafana's transformation does."""
    rows = dict[tuple[tuple[str, str], ...], dict[str, str]]()
    values = dict[tuple[tuple[str, str], ...], float]()
    organize = panel["transformations"][-1]["options"]
    overrides = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
    for number, target in enumerate(panel["targets"]):
        name = value_column(number, panel["targets"])
        title = organize["renameByName"][name]
        look = panel["fieldConfig"]["defaults"] | {
            each["id"]: each["value"] for each in overrides.get(title, ())
        }
        for series in queries.now(target):
            key = tuple(sorted(series.labels.items()))
            rows.setdefault(key, dict(series.labels))[name] = _shown(look, series.last)
            values[key] = series.last
    if not rows:
        return
    names = sorted(organize["renameByName"], key=lambda each: int(organize["indexByName"][each]))
    keys = sorted(rows, key=lambda key: -values[key]) if "sortBy" in panel["options"] else list(rows)
    titles = [organize["renameByName"][name] for name in names]
    yield from _aligned(
        [titles, *([row.get(name, "").strip() for name in names] for row in (rows[key] for key in keys))]
    )


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    """Align the columns, and wrap the widest ones."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * len(widths) > _WIDTH and max(widths) > 16:
        widths[widths.index(max(widths))] -= 1
    for row in rows:
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [
                (cell[number] if number < len(cell) else "").ljust(width)
                for cell, width in zip(cells, widths, strict=True)
            ]
            yield f"  {'  '.join(parts)}".rstrip()


_DRAWN: Mapping[str, Callable[[Mapping[str, Any], PanelQueries], Iterator[str]]] = {
    "stat": _numbers,
    "bargauge": _numbers,
    "timeseries": _lines,
    "table": _table,
    "state-timeline": _history,
}


def _name(target: Mapping[str, Any], series: Series) -> str:
    legend: str = target["legendFormat"]
    if legend == "__auto":
        return ", ".join(f"{name}={value}" for name, value in series.labels.items())
    return _LEGEND.sub(lambda found: series.labels.get(found[1], ""), legend)


def _shown(look: Mapping[str, Any], value: float) -> str:
    """Show a number with its unit and its colour; blue, the plain one, is not said."""
    for mapping in look["mappings"]:
        if (text := mapping["options"].get(_plain(value))) is not None:
            return _coloured(text["color"], text["text"])
    number = _number(look["unit"], value, look.get("decimals"))
    if look["color"]["mode"] != "thresholds":
        return number
    colour = next(
        step["color"]
        for step in reversed(look["thresholds"]["steps"])
        if step["value"] is None or value >= step["value"]
    )
    return _coloured(colour, number)


def _coloured(colour: str, text: str) -> str:
    return text if colour == "blue" else f"[{colour}] {text}"


def _plain(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)


def _number(unit: str, value: float, decimals: int | None) -> str:
    if not math.isfinite(value):
        return {math.inf: "Inf", -math.inf: "-Inf"}.get(value, "NaN")
    match unit:
        case "percentunit":
            return f"{value * 100:.{decimals or 0}f} %"
        case "bytes" | "Bps":
            return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB")) + ("/s" if unit == "Bps" else "")
        case "s":
            return _duration(value)
        case "reqps":
            return f"{value:.2g} req/s"
        case _ if decimals is not None:
            return f"{value:.{decimals}f}"
        case _:
            return f"{value:.3g}" if value < 1000 else _scaled(value, 1000, ("", "K", "Mil", "Bil"))


def _scaled(value: float, step: int, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if abs(value) < step:
            return f"{value:.3g} {unit}".rstrip()
        value /= step
    return f"{value:.3g} {units[-1]}"


def _duration(seconds: float) -> str:
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    for unit, length in (
        ("year", 31_557_600),
        ("week", 604_800),
        ("day", 86_400),
        ("hour", 3600),
        ("min", 60),
    ):
        if seconds >= length:
            return f"{sign}{seconds / length:.1f} {unit}"
    return f"{sign}{seconds:.2f} s" if seconds < 1 else f"{sign}{seconds:.1f} s"
