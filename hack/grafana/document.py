"""Writes the dashboard as Grafana reads it, deploy/grafana/diego-docker-cache.json.

The shape is that of Grafana 10 (schema version 39), which later versions read too.
"""

import json
from collections.abc import Iterable
from typing import Any

from hack.alerts import JOB, PAGES
from hack.grafana.description import COLUMNS, ROOT, Dashboard, read_description
from hack.grafana.panels import SOURCE, in_one_line, link, panel_document

DASHBOARD = ROOT / "deploy" / "grafana" / "diego-docker-cache.json"


def grafana_json(dashboard: Dashboard | None = None) -> str:
    """Write the dashboard as its file holds it."""
    return json.dumps(grafana_document(dashboard or read_description()), indent=2) + "\n"


def grafana_document(dashboard: Dashboard) -> dict[str, Any]:
    """Write the dashboard as a document."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": in_one_line(dashboard.description),
        "tags": ["diego", "docker"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": dashboard.refresh,
        "time": {"from": f"now-{dashboard.since}", "to": "now"},
        "timepicker": {},
        "links": [link("What to do in an incident", "how-to/incidents/index.md")],
        "annotations": {"list": []},
        "templating": {"list": _variables()},
        "panels": list(_numbered(_laid_out(dashboard))),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            **_values_of("job", "docker_cache_build_info"),
            "label": "Job",
            "current": {"text": JOB, "value": JOB},
        },
        {
            **_values_of("platform", 'docker_cache_build_info{job="$job"}'),
            "label": "Platform",
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
        {
            "name": "pages",
            "type": "constant",
            "hide": 2,
            "query": PAGES,
            "current": {"text": PAGES, "value": PAGES},
        },
    ]


def _values_of(label: str, metric: str) -> dict[str, Any]:
    """Let people choose a value of a label."""
    query = f"label_values({metric}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }


def _numbered(panels: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    return ({"id": number, **panel} for number, panel in enumerate(panels, 1))


def _laid_out(dashboard: Dashboard) -> Iterable[dict[str, Any]]:
    """Place panels from left to right, and in a new line where one does not fit."""
    y = 0
    for row in dashboard.row:
        yield {
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": _at(0, y, COLUMNS, 1),
        }
        x, y, tallest = 0, y + 1, 0
        for panel in row.panel:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            yield {**panel_document(panel), "gridPos": _at(x, y, panel.width, panel.height)}
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _at(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}
