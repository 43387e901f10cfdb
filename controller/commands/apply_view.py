"""Shows the progress of a plan that is being applied: bars on a terminal, lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from controller.commands.meanings import explain
from controller.commands.output import Output
from controller.commands.tables import Column, Row

if TYPE_CHECKING:
    from controller.commands.apply_bars import ApplyBars

NOT_DONE = (
    Column("app", lambda row: row["app_name"] or row["process_guid"]),
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("detail", lambda row: row["detail"], priority=1, is_prose=True),
    Column("process-guid", lambda row: row["process_guid"], priority=2),
)

_OVER = frozenset({"done", "skipped", "failed"})


class ApplyView:
    """What a person sees of a plan that is being applied.

    Attributes:
        not_done: The last event of each LRP that was not migrated.
    """

    def __init__(self, output: Output, total: int) -> None:
        self._output, self._total = output, total
        self.not_done: list[Row] = []
        self._migrated = 0
        self._on_their_way: set[str] = set()
        self._bars = _open_bars(output, total)

    @property
    def is_live(self) -> bool:
        """Whether there are bars."""
        return self._bars is not None

    @property
    def is_over(self) -> bool:
        """Whether all planned migrations have ended."""
        return self._ended == self._total

    @property
    def total(self) -> int:
        """The number of migrations."""
        return self._total

    @property
    def progress(self) -> str:
        """How far the plan was applied."""
        way = f", {len(self._on_their_way)} on their way" if self._on_their_way else ""
        return f"{self._ended:,} of {self._total:,} done{way}"

    @property
    def _ended(self) -> int:
        return self._migrated + len(self.not_done)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show bars for the length of a block."""
        if self._bars is None:
            yield
            return
        with self._bars.showing():
            yield

    def see(self, row: Row) -> None:
        """Show a change of an LRP."""
        if self._output.is_json:
            self._output.json_lines([row])
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
            name = row["app_name"] or guid
            self._output.say(f"{row['done']}/{row['total']} {name}: {row['reason']} {row['detail']}".rstrip())

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
            explain(output, [row["reason"] for row in self.not_done])
        output.say()
        skipped = sum(row["state"] == "skipped" for row in self.not_done)
        failed = len(self.not_done) - skipped
        output.say(f"{self._migrated:,} migrated, {skipped:,} skipped, {failed:,} failed", style="heading")


def _open_bars(output: Output, total: int) -> "ApplyBars | None":
    if not output.has_bars:
        return None
    from controller.commands import apply_bars

    return apply_bars.ApplyBars(output.bars, total)
