"""Reads the description of the dashboard, deploy/grafana/dashboard.toml, into values."""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

ROOT = Path(__file__).parent.parent.parent
DESCRIPTION = ROOT / "deploy" / "grafana" / "dashboard.toml"

COLUMNS = 24
"""Width of a dashboard, in the unit of a panel's width."""

_Sentence = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"(?s)^.{20,}[.?]$")]


class Kind(StrEnum):
    """What a panel draws."""

    NUMBER = "number"
    """One number, or one for each series."""
    LINES = "lines"
    AREAS = "areas"
    """Lines on top of each other, whose sum means something."""
    BARS = "bars"
    """One bar for each series, as it is now."""
    TABLE = "table"
    """A row for each set of labels, a column for each query."""
    FAULTS = "faults"
    """A table of what is wrong now: of each alert rule that holds, at once."""
    HISTORY = "history"
    """When each alert rule held."""


class Colour(StrEnum):
    """What a value means to an operator, by its colour."""

    GOOD = "green"
    PLAIN = "blue"
    UNKNOWN = "purple"
    ATTENTION = "yellow"
    BAD = "red"


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_Value):
    """What is shown in place of a number."""

    text: str
    colour: Colour = Colour.PLAIN


class Look(_Value):
    """How numbers are shown.

    Attributes:
        unit: As Grafana names it.
        base: The colour of numbers below all thresholds.
        from_: From which number on which colour is shown.
        texts: What is shown in place of numbers.
    """

    unit: str = "short"
    decimals: int | None = None
    base: Colour = Colour.PLAIN
    from_: Mapping[Colour, float] = Field(default_factory=dict, alias="from")
    texts: Mapping[str, Text] = Field(default_factory=dict)


class Query(_Value):
    """One question to Prometheus.

    Attributes:
        legend: Name of its series, with labels such as {{registry}}.
        column: Title of its column in a table.
        look: Of this column.
    """

    expr: str
    legend: str = ""
    column: str = ""
    look: Look = Look()


class Panel(_Value):
    """One panel.

    Attributes:
        empty: The text in place of an empty panel; it says what that means.
        labels: Titles of the columns for labels, in a table.
        page: Of the documentation, which says what to do.
    """

    title: str
    kind: Kind
    description: _Sentence
    width: int = Field(gt=0, le=COLUMNS)
    height: int = Field(default=7, ge=3)
    look: Look = Look()
    max: float | None = None
    empty: str = ""
    labels: Mapping[str, str] = Field(default_factory=dict)
    page: str = ""
    query: tuple[Query, ...] = ()

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if bool(self.query) == (self.kind in {Kind.FAULTS, Kind.HISTORY}):
            raise ValueError(f"{self.title}: queries, or the alert rules as they are")
        is_table = self.kind is Kind.TABLE
        if any(bool(each.column) != is_table for each in self.query) or bool(self.labels) != is_table:
            raise ValueError(f"{self.title}: a table names its columns, and nothing else does")
        return self


class Row(_Value):
    """Panels that answer one question."""

    title: str
    panel: tuple[Panel, ...]


class Dashboard(_Value):
    """The whole dashboard.

    Attributes:
        refresh: How often it asks anew.
        since: How far back it looks at first.
    """

    uid: str
    title: str
    description: _Sentence
    refresh: str
    since: str
    row: tuple[Row, ...]


def read_description(path: Path = DESCRIPTION) -> Dashboard:
    """Read and check the description.

    Raises:
        ValidationError: A key is unknown or missing, or a value is of another kind.
    """
    return Dashboard.model_validate(tomllib.loads(path.read_text()))
