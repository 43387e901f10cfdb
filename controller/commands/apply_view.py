"""Shows the progress of a plan that is being applied: bars on a terminal, lines elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from controller.commands.meanings import explain
from controller.commands.output import Output
from controller.commands.tables import Column, Row
from controller.commands.words import format_count

if TYPE_CHECKING:
    from controller.commands.apply_bars import ApplyBars


def _name(row: Row) -> str:
    """Name an LRP by its app, and a droplet as one."""
    if row["droplet_guid"]:
        return f"droplet of {row['app_name'] or row['app_guid']}"
    return str(row["app_name"] or row["process_guid"])


NOT_DONE = (
    Column("app", lambda row: row["app_name"] or row["process_guid"]),
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("detail", lambda row: row["detail"], priority=1, is_prose=True),
    Column("process-guid", lambda row: row["process_guid"], priority=2),
)

DROPLETS_NOT_DONE = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    *NOT_DONE[1:4],
    Column("droplet-guid", lambda row: row["droplet_guid"], priority=2),
)

_OVER = frozenset({"done", "skipped", "failed"})


class ApplyView:
    """What a person sees of a plan that is being applied.

    Attributes:
        not_done: The last event of each LRP that was not migrated.
        droplets_not_done: The last event of each droplet that was not changed.
    """

    def __init__(self, output: Output, total: int, droplets: int = 0, *, goal: str = "cache") -> None:
        self._output, self._total, self._droplets = output, total, droplets
        self._changed = "patched" if goal == "cache" else "restored"
        self.not_done: list[Row] = []
        self.droplets_not_done: list[Row] = []
        self._migrated = self._changed_droplets = 0
        self._on_their_way: set[str] = set()
        self._bars = _open_bars(output, total)

    @property
    def is_live(self) -> bool:
        """Whether there are bars."""
        return self._bars is not None

    @property
    def is_over(self) -> bool:
        """Whether all planned migrations and changes of droplets have ended."""
        return self._ended == self._total and self._ended_droplets == self._droplets

    @property
    def total(self) -> int:
        """The number of migrations."""
        return self._total

    @property
    def droplets(self) -> int:
        """The number of changes of droplets."""
        return self._droplets

    @property
    def progress(self) -> str:
        """How far the plan was applied."""
        way = f", {len(self._on_their_way)} on their way" if self._on_their_way else ""
        droplets = ""
        if self._droplets:
            droplets = f"{self._ended_droplets:,} of {format_count(self._droplets, 'droplets')} done, "
        return f"{droplets}{self._ended:,} of {self._total:,} done{way}"

    @property
    def _ended(self) -> int:
        return self._migrated + len(self.not_done)

    @property
    def _ended_droplets(self) -> int:
        return self._changed_droplets + len(self.droplets_not_done)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show bars for the length of a block."""
        if self._bars is None:
            yield
            return
        with self._bars.showing():
            yield

    def see(self, row: Row) -> None:
        """Show a change of an LRP or of a droplet."""
        if self._output.is_json:
            self._output.json_lines([row])
        if row["droplet_guid"]:
            self._see_droplet(row)
        else:
            self._see_lrp(row)

    def _see_droplet(self, row: Row) -> None:
        if row["state"] not in _OVER:
            return
        if row["state"] == "done":
            self._changed_droplets += 1
        else:
            self.droplets_not_done.append(row)
        if self._bars is None:
            done = f"{row['droplets_done']}/{row['droplets_total']}"
            self._output.say(f"{done} {_name(row)}: {row['reason']} {row['detail']}".rstrip())
        else:
            self._bars.see_droplet(row)

    def _see_lrp(self, row: Row) -> None:
        self._total = max(self._total, row["total"])  # more may be to restore than when the plan was made
        guid, is_over = row["process_guid"], row["state"] in _OVER
        if row["state"] == "migrating":
            self._on_their_way.add(guid)
        elif is_over:
            self._on_their_way.discard(guid)
        if self._bars is not None:
            self._bars.see(row, is_over=is_over)
        if not is_over:
            return
        if row["state"] == "done":
            self._migrated += 1
        else:
            self.not_done.append(row)
        if self._bars is None:
            done = f"{row['done']}/{row['total']}"
            self._output.say(f"{done} {_name(row)}: {row['reason']} {row['detail']}".rstrip())

    def see_copy(self, job: Row) -> None:
        """Show the progress of a copy."""
        if self._bars is not None:
            self._bars.see_copy(job)

    def report_interruption(self, what: str) -> None:
        """Say how far the plan was applied when a person interrupted, and what happens next."""
        self._output.note(f"{self.progress}: {what}" if self._on_their_way else self.progress)

    def sum_up(self) -> None:
        """Write the result."""
        output = self._output
        if output.is_json:
            return
        if self.not_done:
            output.say()
            output.listing(self.not_done, NOT_DONE, what="apps not migrated")
        if self.droplets_not_done:
            output.say()
            output.listing(self.droplets_not_done, DROPLETS_NOT_DONE, what="droplets not changed")
        explain(output, [row["reason"] for row in [*self.not_done, *self.droplets_not_done]])
        output.say()
        output.say(_counts(f"{self._migrated:,} migrated", self.not_done), style="heading")
        if self._droplets:
            done = f"{format_count(self._changed_droplets, 'droplets')} {self._changed}"
            output.say(_counts(done, self.droplets_not_done), style="heading")


def _counts(done: str, not_done: Sequence[Row]) -> str:
    skipped = sum(row["state"] == "skipped" for row in not_done)
    return f"{done}, {skipped:,} skipped, {len(not_done) - skipped:,} failed"


def _open_bars(output: Output, total: int) -> "ApplyBars | None":
    if not output.has_bars:
        return None
    from controller.commands import apply_bars

    return apply_bars.ApplyBars(output.bars, total)
