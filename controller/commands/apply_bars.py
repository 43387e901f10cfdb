"""Draws a bar for a plan, for each migration under way, and for each copy."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from controller.commands.tables import Row
from controller.commands.words import format_size
from reconcile.foreign_text import shown
from reconcile.migrations import Phase
from reconcile.reasons import Reason

STEPS = tuple(
    str(step)
    for step in (
        Phase.PREPARED,
        Phase.BRIDGING,
        Phase.BRIDGED,
        Reason.WAITING_FOR_ROUTES,
        Phase.REMOVING,
        Phase.REMOVED,
        Reason.INSTANCES_STOPPING,
        Reason.DESIRE_UNCONFIRMED,
        Phase.STARTING,
        Phase.REMOVING_BRIDGE,
    )
)
"""The steps of a migration in their order, by the reasons that are reported for them."""


class ApplyBars:
    """The bars of a plan that is being applied."""

    def __init__(self, console: Console, total: int) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),  # names are tenants' texts
            BarColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._all = self._bars.add_task("apps", total=total, what=f"0 of {total:,}")
        self._droplets: TaskID | None = None
        self._migrating: dict[str, TaskID] = {}
        self._copying: dict[str, TaskID] = {}

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show the bars for the length of a block."""
        with self._bars:
            yield

    def see(self, row: Row, *, is_over: bool) -> None:
        """Show a change of an LRP."""
        done, total = row["done"], row["total"]
        self._bars.update(self._all, completed=done, total=total, what=f"{done:,} of {total:,}")
        guid = row["process_guid"]
        bar = self._migrating.get(guid)
        if is_over and bar is not None:
            self._bars.remove_task(self._migrating.pop(guid))
        elif not is_over and row["state"] == "migrating":
            if bar is None:
                name = shown(row["app_name"] or guid)
                bar = self._migrating[guid] = self._bars.add_task(f"  {name}", total=len(STEPS), what="")
            self._bars.update(bar, what=row["reason"])
            if row["reason"] in STEPS:
                self._bars.update(bar, completed=STEPS.index(row["reason"]))

    def see_droplet(self, row: Row) -> None:
        """Show that the change of a droplet has ended."""
        done, total = row["droplets_done"], row["droplets_total"]
        if self._droplets is None:
            self._droplets = self._bars.add_task("droplets", total=total, what="")
        self._bars.update(self._droplets, completed=done, total=total, what=f"{done:,} of {total:,}")

    def see_copy(self, job: Row) -> None:
        """Show the progress of a copy."""
        bar, progress = self._copying.get(job["job_id"]), job["progress"]
        if job["state"] != "copying":
            if bar is not None:
                self._bars.remove_task(self._copying.pop(job["job_id"]))
            return
        if bar is None:
            bar = self._copying[job["job_id"]] = self._bars.add_task(
                f"  {shown(job['source'])}", total=None, what=""
            )
        if progress is not None:
            done = progress["transferred_bytes"] + progress["skipped_bytes"]
            total = progress["total_bytes"]
            what = f"{format_size(done)} of {format_size(total)}"
            self._bars.update(bar, total=total or None, completed=done, what=what)
