"""Judges the alert rules by promtool, with what daemons have shown their scraper.

A scrape is one answer of a daemon's metrics endpoint. It is held for as long as rules want, as if the daemon
answered the same all the time, after an hour in which everything was as in an earlier scrape.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hack.alerts import ALERTS, JOB, RULES

SUFFIXES = ("", "_bucket", "_sum", "_count")
"""How the names of a family's series end beside its own."""
BEFORE = 60
"""Minutes for which the earlier scrape is held."""
SHORTEST_STEP = 5
"""Minutes between two samples: an alert that waits for less is sent at the next one."""
MOST_SAMPLES = 50
"""How many samples about show how long an alert waits."""
AT_LEAST = 20
"""Minutes for which the scrape of now is held at least: longer than what rules look back to."""
ALIVE = 5.0
"""Seconds: what was last done so shortly before a scrape is done again and again while it is held."""

_SELECTOR = re.compile(r"\b(up|docker_cache_\w+|process_\w+)\b(?:{([^}]*)})?")
_MATCHER = re.compile(r"""(\w+)(?:=|!=|=~|!~)["']([^"']*)["']""")

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a scraper got.

    Attributes:
        instance: Whom it asked.
        at: When, in UTC seconds since 1970.
        text: The answer; None if there was none.
    """

    instance: str
    at: float
    text: str | None

    def samples(self) -> dict[Series, float]:
        """Give the samples that the scraper stores, with the labels that it adds."""
        target = {"job": JOB, "instance": self.instance}
        found: dict[Series, float] = {("up", _labels(target)): float(self.text is not None)}
        for family in text_string_to_metric_families(self.text or ""):
            for sample in family.samples:
                found[sample.name, _labels({**sample.labels, **target})] = sample.value
        return found

    def find(self, name: str, **labels: str) -> float | None:
        """Give the value of the one series that has a name and some labels; None where there is none.

        Raises:
            KeyError: There are several.
        """
        lines = [line for line in (self.text or "").splitlines() if re.match(rf"{name}[{{ ]", line)]
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        values = [float(line.split()[-1]) for line in lines if all(each in line for each in wanted)]
        if len(values) > 1:
            raise KeyError(f"{len(values)} series {name} with {labels}")
        return values[0] if values else None

    def value(self, name: str, **labels: str) -> float:
        """Give the value of the one series that has a name and some labels.

        Raises:
            KeyError: There is none, or there are several.
        """
        found = self.find(name, **labels)
        if found is None:
            raise KeyError(f"no series {name} with {labels}")
        return found


@dataclass(frozen=True, slots=True)
class Selector:
    """What a query selects.

    Attributes:
        labels: Names to the values that are compared with; alternatives of a pattern are parted.
    """

    name: str
    labels: Mapping[str, tuple[str, ...]]

    def without(self, *names: str) -> Mapping[str, tuple[str, ...]]:
        """Give the labels but some."""
        return {name: values for name, values in self.labels.items() if name not in names}


def selectors(query: str) -> list[Selector]:
    """Find what a query, or a text with queries in it, selects of a daemon."""
    return [
        Selector(name, {label: tuple(text.split("|")) for label, text in _MATCHER.findall(matchers)})
        for name, matchers in _SELECTOR.findall(query)
    ]


def promtool() -> str:
    """Find Prometheus's own judge; without it CI fails and a developer's run skips."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("promtool is not installed")
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return found


def assert_alerts(
    directory: Path, expected: Collection[str], scrapes: Sequence[tuple[Scrape, Scrape]]
) -> None:
    """Assert which alerts fire when scrapes are held, and that no other one would fire later.

    Args:
        directory: For promtool's file.
        expected: The names of the alerts.
        scrapes: Of each instance, when all was well and now.
    """
    longest = max((alert.minutes for alert in ALERTS if alert.name in expected), default=0)
    step = max(SHORTEST_STEP, longest // MOST_SAMPLES)
    counts = ceil(BEFORE / step), ceil((AT_LEAST + longest) / step)
    series = [
        {"series": _text(each), "values": values}
        for pair in scrapes
        for each, values in _values(*pair, counts=counts, step=step)
    ]
    fires = [
        {"labels": f'{{alertname="{name}", alertstate="firing"}}', "value": 1} for name in sorted(expected)
    ]
    asked = {
        "expr": "group by (alertname, alertstate) (ALERTS)",
        "eval_time": f"{(sum(counts) - 1) * step}m",
        "exp_samples": fires,
    }
    test = {"interval": f"{step}m", "input_series": series, "promql_expr_test": [asked]}
    document = {"rule_files": [str(RULES)], "evaluation_interval": f"{step}m", "tests": [test]}
    file = directory / "alerts.json"
    file.write_text(json.dumps(document))
    judge = subprocess.run([promtool(), "test", "rules", file], capture_output=True, text=True, check=False)
    assert judge.returncode == 0, judge.stdout + judge.stderr


def _values(
    before: Scrape, now: Scrape, *, counts: tuple[int, int], step: int
) -> Iterator[tuple[Series, str]]:
    """Write the samples of series in promtool's notation: earlier ones, then those of now."""
    looked_at = {selector.name for alert in ALERTS for selector in selectors(alert.expr)}
    spans = (
        _Span(before, before.samples(), 0.0, counts[0], step),
        _Span(now, now.samples(), 60.0 * step * counts[0], counts[1], step),
    )
    for series in {**spans[0].samples, **spans[1].samples}:
        if series[0] not in looked_at:
            continue
        yield series, " ".join(span.values(series) for span in spans)


@dataclass(frozen=True, slots=True)
class _Span:
    """The time for which a scrape is held.

    Attributes:
        begins: In seconds of the test.
        step: Minutes between two samples.
    """

    scrape: Scrape
    samples: Mapping[Series, float]
    begins: float
    count: int
    step: int

    def values(self, series: Series) -> str:
        """Write a value that is held.

        A time becomes one of the test; that of something that was just done moves on.
        """
        name, value, growth = series[0], self.samples.get(series), 0
        if value is None:
            return f"_x{self.count}"
        if not isfinite(value):
            return " ".join([str(value)] * self.count)
        if name.endswith("_timestamp_seconds") and value != 0:
            is_going_on = "_last_" in name and self.scrape.at - value < ALIVE
            growth = 60 * self.step if is_going_on else 0
            value += self.begins - self.scrape.at
        return f"{value!r}+{growth}x{self.count - 1}"


def _labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _text(series: Series) -> str:
    name, labels = series
    return f"{name}{{{', '.join(f'{key}={json.dumps(value)}' for key, value in labels)}}}"
