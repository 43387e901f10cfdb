"""Shows how a plan that is being applied gets on: bars on a terminal, lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from controller.commands.apps import explain
from controller.commands.output import Column, Output, Row, size

NEWS = (
    Column("app", lambda row: row["app_name"] or row["process_guid"]),
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("detail", lambda row: row["detail"]),
)

_OVER = frozenset({"done", "left", "failed"})

_STEPS = (
    "prepared",
    "bridging",
    "bridged",
    "route-starting",
    "removing",
    "removed",
    "instances-stopping",
    "replaced-unconfirmed",
    "starting",
    "removing-bridge",
)
"""What an LRP goes through, for its bar."""


class ApplyView:
    """What a person sees of a plan that is being applied.

    Attributes:
        is_live: There are bars, on a terminal.
        not_done: What became of the LRPs that were not moved.
    """

    def __init__(self, output: Output, total: int) -> None:
        self._output = output
        self.is_live = output.has_bars
        self.not_done: list[Row] = []
        self._done = 0
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),  # names are tenants' texts
            BarColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            console=output.notes,
            transient=True,
            disable=not self.is_live,
        )
        self._all = self._bars.add_task("apps", total=total, what=f"0 of {total}")
        self._moving: dict[str, TaskID] = {}
        self._copying: dict[str, TaskID] = {}

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show bars for the length of a block."""
        with self._bars:
            yield

    def see(self, row: Row) -> None:
        """Take note of what became of an LRP."""
        if self._output.is_json:
            self._output.lines([row])
        is_over = row["state"] in _OVER
        self._bars.update(self._all, completed=row["done"], what=f"{row['done']:,} of {row['total']:,}")
        self._show_moving(row, is_over=is_over)
        if not is_over:
            return
        if row["state"] == "done":
            self._done += 1
        else:
            self.not_done.append(row)
        if not self.is_live:
            name = row["app_name"] or row["process_guid"]
            self._output.say(f"{row['done']}/{row['total']} {name}: {row['reason']} {row['detail']}".rstrip())

    def _show_moving(self, row: Row, *, is_over: bool) -> None:
        guid = row["process_guid"]
        bar = self._moving.get(guid)
        if is_over and bar is not None:
            self._bars.remove_task(self._moving.pop(guid))
        elif not is_over and row["state"] == "migrating":
            if bar is None:
                name = row["app_name"] or guid
                bar = self._moving[guid] = self._bars.add_task(f"  {name}", total=len(_STEPS), what="")
            step = row["reason"].removeprefix("waiting: ")
            self._bars.update(bar, what=step)
            if step in _STEPS:
                self._bars.update(bar, completed=_STEPS.index(step))

    def see_copy(self, job: Row) -> None:
        """Take note of how far a copy has come."""
        bar, progress = self._copying.get(job["job_id"]), job["progress"]
        if job["state"] != "copying":
            if bar is not None:
                self._bars.remove_task(self._copying.pop(job["job_id"]))
            return
        if bar is None:
            bar = self._copying[job["job_id"]] = self._bars.add_task(
                f"  {job['source']}", total=None, what=""
            )
        if progress is not None:
            done = progress["moved_bytes"] + progress["skipped_bytes"]
            total = progress["total_bytes"]
            self._bars.update(bar, total=total or None, completed=done, what=f"{size(done)} of {size(total)}")

    def sum_up(self) -> None:
        """Say what came of it."""
        output = self._output
        if self.not_done and not output.is_json:
            output.say("")
            output.rows(self.not_done, NEWS, what="apps not moved")
            explain(output, {row["reason"] for row in self.not_done})
        output.say("")
        left = sum(row["state"] == "left" for row in self.not_done)
        failed = len(self.not_done) - left
        output.say(f"{self._done:,} moved, {left:,} left as they were, {failed:,} failed", style="bold")
