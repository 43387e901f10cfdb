"""Writes expressions of the description and of alert rules as Prometheus is asked for them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hack.alerts import ALERTS, JOB, Alert, Severity

_METRIC = re.compile(r"\b((?:docker_cache|process|python)_[a-z0-9_]+|up)\b(?!\")(?:\{([^{}]*)\})?")
_HOLDS = re.compile(r"\bholds\(([A-Za-z, \n]*)\)")
_PLACES = ("platform", "registry", "file", "stream", "phase", "instance")
"""Labels of what rules are about, which say where something is wrong."""

_CHOSEN = 'job="$job", platform=~"$platform"'
"""Whose metrics are shown, by what is chosen; scrapes without the label `platform` are of every platform."""

RANKS = {Severity.CRITICAL: 2, Severity.WARNING: 1}
"""The higher, the worse."""


_HAS_JUST_BEGUN = (
    "docker_cache_sweep_last_success_timestamp_seconds == 0 and "
    "(min_over_time(docker_cache_lock_held[5m]) == 0 or time() - process_start_time_seconds < 300)"
)
_IS_AWAY = (
    "max without (instance, stream) (docker_cache_bbs_stream_connected) == 0 and "
    'sum without (instance, outcome) (increase(docker_cache_sweeps_total{outcome="done"}[2m])) == 0'
)
_WORDS = {
    "DockerCachePaused": "The daemon is paused",
    "DockerCacheBbsNotListed": "The BBS cannot be listed",
    "DockerCacheBbsEventsLost": "An event stream of the BBS is not open",
}
"""What rules say that hold at this moment, and not yet for as long as their own words say."""
_EXPRESSIONS: Mapping[str, str] = {
    "DockerCacheBbsNotListed": f"((RULE) or {_IS_AWAY}) unless on (job, platform) ({_HAS_JUST_BEGUN})",
    "DockerCacheBbsEventsLost": f"(RULE) unless on (job, platform) ({_IS_AWAY})",
}
"""What rules look at that are shown at once, with RULE for what they look at otherwise.

A new active instance lists the BBS within seconds. While no stream is open and nothing was listed for two
minutes, the BBS is away, and not only its events.
"""


def _at_once(alert: Alert) -> Alert:
    """Make of a rule what is shown without the time for which it must hold."""
    expr = _EXPRESSIONS.get(alert.name, "RULE").replace("RULE", alert.expr)
    return replace(alert, wrong=_WORDS.get(alert.name, alert.wrong), expr=expr)


FAULTS: tuple[Alert, ...] = tuple(map(_at_once, ALERTS))
"""What may be wrong."""


def written_out(expr: str) -> str:
    """Write an expression as Prometheus is asked for it.

    Each metric is that of the job and the platform that are chosen on the dashboard. `holds(A, B)` is 1 while
    one of these alert rules holds, without the time for which it must hold, and 0 otherwise.
    """
    return _of_chosen(_HOLDS.sub(lambda found: _any_holds(found[1].replace(",", " ").split()), expr))


def _of_chosen(expr: str) -> str:
    expr = " ".join(expr.split()).replace(f'job="{JOB}"', "")
    return _METRIC.sub(lambda found: f"{found[1]}{{{_with_chosen(found[2])}}}", expr)


def _with_chosen(labels: str | None) -> str:
    return ", ".join(filter(None, (_CHOSEN, (labels or "").strip())))


def _any_holds(names: Iterable[str]) -> str:
    known = {each.name: each for each in FAULTS}
    return f"(group({' or '.join(f'({known[name].expr})' for name in names)}) or vector(0))"


def fault_line(alert: Alert) -> str:
    """Write the query that is the rank of a rule while it holds, and nothing otherwise."""
    return f"{RANKS[alert.severity]} * group({_of_chosen(alert.expr)})"


def fault_row(alert: Alert) -> str:
    """Write the query for the rows of a rule in a table of what is wrong now.

    Texts are labels, and the rank is the value.
    """
    places = ", ".join(_PLACES)
    joined = ", ".join(f'"{each}"' for each in _PLACES)
    expr = (
        f"{RANKS[alert.severity]} * group by (where) "
        f'(label_replace(label_join(group by ({places}) ({_of_chosen(alert.expr)}), "where", " ", {joined}), '
        r'"where", "$1", "where", " *(.*?) *"))'
    )
    texts = (("wrong", alert.wrong), ("cost", alert.cost), ("alert", alert.after), ("page", alert.runbook))
    for label, text in texts:
        expr = f'label_replace({expr}, "{label}", "{_quoted(text)}", "", "")'
    return expr


def fault_rows(alerts: Iterable[Alert] = FAULTS) -> str:
    """Write the query for all rows."""
    return "\nor\n".join(map(fault_row, alerts))


def _quoted(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
