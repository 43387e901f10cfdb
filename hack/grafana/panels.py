"""Writes one panel as Grafana reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

from hack.alerts import Severity
from hack.grafana.description import COLUMNS, Colour, Kind, Look, Panel, Query
from hack.grafana.queries import FAULTS, RANKS, fault_line, fault_rows, written_out

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
"""The Prometheus that is chosen on the dashboard."""
_TYPES: Mapping[Kind, str] = {
    Kind.NUMBER: "stat",
    Kind.LINES: "timeseries",
    Kind.AREAS: "timeseries",
    Kind.BARS: "bargauge",
    Kind.TABLE: "table",
    Kind.FAULTS: "table",
    Kind.HISTORY: "state-timeline",
}
_RANK_COLOURS = {Severity.WARNING: Colour.ATTENTION, Severity.CRITICAL: Colour.BAD}
_RANK_LOOK = Look.model_validate(
    {
        "base": Colour.GOOD,
        "texts": {
            "0": {"text": "no", "colour": Colour.GOOD},
            **{str(RANKS[each]): {"text": each, "colour": _RANK_COLOURS[each]} for each in Severity},
        },
    }
)
_FAULT_COLUMNS = {
    "Value": "Severity",
    "wrong": "What is wrong",
    "where": "Where",
    "cost": "What it costs",
    "alert": "Alert after",
    "page": "What to do",
}
_WIDTHS = {"Value": 90, "wrong": 360, "where": 220, "alert": 100, "page": 330}
"""In pixels; what it costs gets the rest."""


def panel_document(panel: Panel) -> dict[str, Any]:
    """Write a panel without its place."""
    defaults, overrides = _field_config(panel)
    return {
        "type": _TYPES[panel.kind],
        "title": panel.title,
        "description": in_one_line(panel.description),
        "datasource": SOURCE,
        "targets": _targets(panel),
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": _options(panel),
        **({"transformations": _transformations(panel)} if _TYPES[panel.kind] == "table" else {}),
        **({"links": [link("What to do", panel.page)]} if panel.page else {}),
    }


def link(title: str, page: str) -> dict[str, Any]:
    """Link a page of the documentation."""
    return {"title": title, "type": "link", "icon": "doc", "url": f"$pages/{page}", "targetBlank": True}


def in_one_line(text: str) -> str:
    """Write a text of the description without its line breaks."""
    return " ".join(text.split())


def _targets(panel: Panel) -> list[dict[str, Any]]:
    match panel.kind:
        case Kind.FAULTS:
            asked = [(fault_rows(), "")]
        case Kind.HISTORY:
            asked = [(fault_line(each), each.wrong) for each in FAULTS]
        case _:
            asked = [(written_out(each.expr), each.legend) for each in panel.query]
    over_time = panel.kind in {Kind.LINES, Kind.AREAS, Kind.HISTORY}
    return [
        {
            "refId": _letter(number),
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": expr,
            "legendFormat": legend or "__auto",
            "instant": not over_time,
            "range": over_time,
            "format": "table" if _TYPES[panel.kind] == "table" else "time_series",
        }
        for number, (expr, legend) in enumerate(asked)
    ]


def _letter(number: int) -> str:
    """Name a query as Grafana does: A to Z, then AA and so on."""
    before, letter = divmod(number, 26)
    return ("" if before == 0 else chr(ord("A") + before - 1)) + chr(ord("A") + letter)


def _field_config(panel: Panel) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Say how values are shown: all of them, and those of single columns."""
    look = _RANK_LOOK if panel.kind in {Kind.FAULTS, Kind.HISTORY} else panel.look
    defaults = _shown(look) | ({"noValue": panel.empty} if panel.empty else {})
    match panel.kind:
        case Kind.LINES | Kind.AREAS:
            defaults |= {"min": 0, "custom": _curves(stacked=panel.kind is Kind.AREAS)}
        case Kind.HISTORY:
            defaults |= {"custom": {"fillOpacity": 80, "lineWidth": 0}}
        case Kind.BARS:
            defaults |= {"min": 0}
        case Kind.FAULTS:
            return defaults, _fault_columns()
        case Kind.TABLE:
            return defaults, list(map(_column, panel.query))
        case Kind.NUMBER:
            pass
    if panel.max is not None:
        defaults |= {"max": panel.max}
    return defaults, []


def _curves(*, stacked: bool) -> dict[str, Any]:
    return {
        "drawStyle": "line",
        "lineInterpolation": "stepAfter",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 5,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off"},
    }


def _shown(look: Look) -> dict[str, Any]:
    steps = sorted(look.from_.items(), key=lambda each: each[1])
    texts = {
        value: {"index": index, "text": each.text, "color": each.colour}
        for index, (value, each) in enumerate(look.texts.items())
    }
    return {
        "unit": look.unit,
        **({} if look.decimals is None else {"decimals": look.decimals}),
        "color": {"mode": "thresholds"} if steps or texts else {"mode": "palette-classic"},
        "thresholds": {
            "mode": "absolute",
            "steps": [
                {"color": look.base, "value": None},
                *({"color": colour, "value": value} for colour, value in steps),
            ],
        },
        "mappings": [{"type": "value", "options": texts}] if texts else [],
    }


def _column(query: Query) -> dict[str, Any]:
    shown = _shown(query.look)
    properties = [{"id": "unit", "value": shown["unit"]}]
    if "decimals" in shown:
        properties.append({"id": "decimals", "value": shown["decimals"]})
    if query.look.from_ or query.look.texts:
        properties += [
            {"id": "thresholds", "value": shown["thresholds"]},
            {"id": "mappings", "value": shown["mappings"]},
            {"id": "color", "value": {"mode": "thresholds"}},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ]
    return _override(query.column, properties)


def _override(name: str, properties: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"matcher": {"id": "byName", "options": name}, "properties": list(properties)}


def _fault_columns() -> list[dict[str, Any]]:
    colours = {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}}
    wrapped = {"id": "custom.cellOptions", "value": {"type": "auto", "wrapText": True}}
    link = {"title": "Open the page", "url": "$pages/${__value.text}", "targetBlank": True}
    more: Mapping[str, list[dict[str, Any]]] = {
        "Value": [colours],
        "wrong": [wrapped],
        "cost": [wrapped],
        "page": [{"id": "links", "value": [link]}],
    }
    return [
        _override(
            _FAULT_COLUMNS[name],
            [
                *([{"id": "custom.width", "value": _WIDTHS[name]}] if name in _WIDTHS else []),
                *more.get(name, []),
            ],
        )
        for name in _FAULT_COLUMNS
    ]


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    """Put the rows of all queries together, and name the columns."""
    if panel.kind is Kind.FAULTS:
        names, hidden = _FAULT_COLUMNS, ["Time"]
    else:
        values = {value_column(number, panel.query): each.column for number, each in enumerate(panel.query)}
        names, hidden = {**panel.labels, **values}, ["Time"]
    organize = {
        "excludeByName": dict.fromkeys(hidden, True),
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": dict(names),
    }
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def value_column(number: int, queries: Sequence[object]) -> str:
    """Name the column of a query's values, as Grafana does before it is renamed."""
    return "Value" if len(queries) == 1 else f"Value #{_letter(number)}"


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case Kind.NUMBER:
            return {
                "reduceOptions": last,
                "colorMode": "background" if panel.look.texts or panel.look.from_ else "value",
                "graphMode": "none",
                "textMode": "auto",
                "orientation": "auto",
                "justifyMode": "center",
            }
        case Kind.LINES | Kind.AREAS:
            is_wide = panel.width * 2 >= COLUMNS
            legend = {
                "displayMode": "table" if is_wide else "list",
                "placement": "right" if is_wide else "bottom",
                "calcs": ["lastNotNull"],
                "showLegend": True,
            }
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case Kind.BARS:
            return {
                "reduceOptions": last,
                "orientation": "horizontal",
                "displayMode": "basic",
                "valueMode": "text",
                "showUnfilled": True,
            }
        case Kind.HISTORY:
            return {
                "mergeValues": True,
                "showValue": "never",
                "rowHeight": 0.9,
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
                "tooltip": {"mode": "single", "sort": "none"},
            }
        case Kind.FAULTS:
            return {
                "showHeader": True,
                "cellHeight": "lg",
                "sortBy": [{"displayName": _FAULT_COLUMNS["Value"], "desc": True}],
            }
        case Kind.TABLE:
            return {"showHeader": True, "cellHeight": "sm"}
