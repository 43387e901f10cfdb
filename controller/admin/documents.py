"""A plan as a document: the entries that the daemon sent, which can be shown, saved to a file and sent back.

The file has one JSON object per line; the first one is a header.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from controller.admin.rows import Row, row_from_message
from protos.admin import admin_pb2 as pb
from reconcile.errors import Invalid

_HEADER = {"docker_cache_plan": 1}

_YEAR_10000 = 253_402_300_800.0
"""Beginning of that year in UTC seconds since 1970; `datetime` knows no later time."""


SKIPPED = frozenset({"skipped", "skipped_droplet"})
"""Entries that do not matter when a plan is applied."""


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """A whole plan, as rows."""

    entries: tuple[pb.PlanEntry, ...]

    @classmethod
    def from_messages(cls, entries: Sequence[pb.PlanEntry]) -> Self:
        """Take the entries that a daemon sent.

        Raises:
            Invalid: The plan is cut.
        """
        if not entries or not entries[-1].HasField("end"):
            raise Invalid(
                "admin", "plan-cut", "the daemon ended in the middle of the plan: run the command again"
            )
        return cls(tuple(entries))

    @classmethod
    def from_text(cls, text: str, name: str) -> Self:
        """Read a file's text.

        Raises:
            Invalid: The file is not a plan, or not a whole one; the detail names the line.
        """
        from google.protobuf import json_format  # noqa: PLC0415 - a plan that stays in memory needs it not

        lines = text.splitlines()
        try:
            header = json.loads(lines[0]) if lines else None
        except (ValueError, RecursionError):
            header = None
        if header != _HEADER:
            raise Invalid(
                "plan",
                "no-plan",
                f"{name} is not a plan: write one with `reconcile --out` or `restore --out`",
            )
        entries = list[pb.PlanEntry]()
        for number, line in enumerate(lines[1:], start=2):
            try:
                entries.append(json_format.Parse(line, pb.PlanEntry()))
            except json_format.ParseError as error:
                raise Invalid(
                    "plan", "no-plan", f"{name}, line {number}, is not an entry of a plan"
                ) from error
        if not entries or not entries[-1].HasField("end"):
            raise Invalid("plan", "plan-cut", f"{name} has no end: it was cut, write it again")
        if not 0 <= entries[-1].end.made_at < _YEAR_10000:
            raise Invalid("plan", "no-plan", f"{name} has an impossible time")
        return cls(tuple(entries))

    def text(self) -> str:
        """Write the file's text."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterable[str]:
        from google.protobuf import json_format  # noqa: PLC0415 - a plan that stays in memory needs it not

        yield json.dumps(_HEADER)
        for entry in self.entries:
            yield json.dumps(json_format.MessageToDict(entry, preserving_proto_field_name=True))

    def messages(self) -> Iterable[pb.PlanEntry]:
        """List the entries that a daemon needs to apply the plan: all but skipped LRPs and droplets."""
        return (entry for entry in self.entries if entry.WhichOneof("entry") not in SKIPPED)

    @property
    def copies(self) -> list[Row]:
        """The images that are to be copied first."""
        return self._rows("copy")

    @property
    def migrations(self) -> list[Row]:
        """The LRPs that are to be migrated."""
        return self._rows("migration")

    @property
    def pins(self) -> list[Row]:
        """The LRPs that run from their sources, and whose apps are to be pinned there."""
        return self._rows("pin")

    @property
    def skipped(self) -> list[Row]:
        """The LRPs that the plan does not change."""
        return self._rows("skipped")

    @property
    def droplets(self) -> list[Row]:
        """The droplets that are to be changed, or whose apps are to be pinned to their sources."""
        return self._rows("droplet")

    @property
    def skipped_droplets(self) -> list[Row]:
        """The droplets that the plan does not change."""
        return self._rows("skipped_droplet")

    @property
    def end(self) -> Row:
        """The last entry: goal, made_at, considered, problems, cache_registry, droplet_problems."""
        return self._rows("end")[0]

    def _rows(self, kind: str) -> list[Row]:
        chosen = (entry for entry in self.entries if entry.WhichOneof("entry") == kind)
        return [row_from_message(getattr(entry, kind)) for entry in chosen]
