"""Commands that plan and apply: reconcile, to the copies, and restore, back to the sources."""

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from controller import PROGRAM
from controller.admin.admin_client import AdminClient
from controller.admin.documents import PlanDocument
from controller.admin.request_options import Filters, PlanOptions
from controller.commands.apply_view import ApplyView
from controller.commands.confirmation import Interrupted, ask, explaining_interruption
from controller.commands.droplet_plan_view import changed_droplets
from controller.commands.options import (
    config_option,
    direct_option,
    filter_options,
    max_in_flight_option,
    report_no_match,
    wide_output_option,
    written_filters,
    yes_option,
)
from controller.commands.output import Output
from controller.commands.plan_view import is_pending, show_plan
from controller.commands.sessions import Target, call
from controller.commands.words import format_count
from reconcile.errors import DockerCacheError, ErrorCode, Invalid, Unavailable

CHANGES_PENDING = 2

NEW_PLAN = "\0"
"""The value of --apply without a file, which nobody can type: a new plan is made and applied."""

GOALS = {"cache": "reconcile", "source": "restore"}
"""Goal of a plan to the command that makes and applies it."""


class NotAllDone(DockerCacheError):
    """Some LRPs of a plan were not migrated."""


@dataclass(slots=True)
class Applying:
    """How a plan is applied, and where.

    Attributes:
        max_in_flight: LRPs that are migrated at a time; None leaves it to the daemon.
        is_sure: Nobody is asked for confirmation.
        has_begun: The plan was sent to be applied.
    """

    target: Target
    max_in_flight: int | None
    is_sure: bool
    has_begun: bool = False


@click.command()
@config_option
@direct_option
@wide_output_option
@filter_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan to this file.")
@click.option(
    "--apply",
    "apply_file",
    is_flag=False,
    flag_value=NEW_PLAN,
    default=None,
    metavar="[FILE]",
    help="Apply the plan in this file, or without a file the one that is shown.",
)
@yes_option
@max_in_flight_option
@click.option(
    "--strategy",
    type=click.Choice(["bridge", "recreate", "update"]),
    help="Only LRPs that would be migrated by this strategy.",
)
@click.option(
    "--cache-missing/--no-cache-missing",
    "cache_missing",
    default=True,
    help="Copy images that have no copy yet, or skip their apps.",
)
@click.option(
    "--include-pinned", is_flag=True, help="Include apps that `restore` has pinned to their sources."
)
def reconcile(  # noqa: PLR0913 - each is an option
    *,
    config_path: Path,
    is_direct: bool,
    output: Output,
    filters: Filters,
    out: Path | None,
    apply_file: str | None,
    is_sure: bool,
    max_in_flight: int | None,
    strategy: str | None,
    cache_missing: bool,
    include_pinned: bool,
) -> None:
    """Migrate apps to their copies: plan, then apply.

    Without --apply the plan is shown, nothing is changed, and the status is 2 when changes are pending, 0
    when not. With --apply exactly the plan is applied; all of it is refused when it is stale. Ctrl-C starts
    no further migration and waits for those that have begun; the same plan can be applied again for the rest.

    Where a Cloud Controller is configured, the names of copies are also written into the droplets of these
    apps, of apps that do not run, and of earlier revisions. A droplet that has changed since the plan was
    made is skipped. With --strategy droplets are left out.

    \b
    Examples:
      diego-docker-cache reconcile --org prod --out plan.jsonl
      diego-docker-cache reconcile --apply plan.jsonl
      diego-docker-cache reconcile --app 'web-*' --apply --yes
    """
    options = PlanOptions("cache", strategy, only_cached=not cache_missing, include_pinned=include_pinned)
    applying = Applying(Target(config_path, is_direct), max_in_flight, is_sure)
    if apply_file == "":
        raise click.UsageError("--apply: the file has no name; for a new plan write --apply alone")
    file = None if apply_file in {None, NEW_PLAN} else Path(str(apply_file))
    if file is not None and (not filters.selects_all or options != PlanOptions() or out is not None):
        raise click.UsageError("a plan in a file is applied as it is: give no filters and no --out with it")
    read = None if file is None else _read_plan(file, "cache", applying.target)

    async def work(client: AdminClient) -> int:
        plan = read if read is not None else await client.plan(filters, options)
        show_plan(output, plan)
        _report_no_match(output, plan, filters)
        if out is not None:
            _save_plan(output, out, plan, applying.target)
        if apply_file is None:
            _refuse_incomplete(plan)
            return CHANGES_PENDING if is_pending(plan) else 0
        await _apply(output, client, plan, applying)
        return 0

    with explaining_interruption(lambda: _what_is_left(applying)):
        status = call(applying.target, work)
    sys.exit(status)


@click.command()
@config_option
@direct_option
@wide_output_option
@filter_options
@click.option("--all", "is_all", is_flag=True, help="Restore all apps, when no filter is given.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Only save the plan to this file."
)
@click.option(
    "--apply",
    "apply_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Apply the plan in this file instead of a new one.",
)
@yes_option
@max_in_flight_option
def restore(  # noqa: PLR0913 - each is an option
    *,
    config_path: Path,
    is_direct: bool,
    output: Output,
    filters: Filters,
    is_all: bool,
    out: Path | None,
    apply_file: Path | None,
    is_sure: bool,
    max_in_flight: int | None,
) -> None:
    """Migrate apps back to their sources and pin them.

    The plan is shown, and applied after a confirmation. Apps that are just being migrated turn back, or
    are restored after that. Pinned apps are migrated again only by `reconcile --include-pinned`. New apps
    are still migrated: `pause` prevents that.

    Where a Cloud Controller is configured, an app's droplets get their original images first, and its LRPs
    follow. LRPs do not wait for a Cloud Controller that does not answer; the daemon restores droplets once it
    does. A daemon that is paused does not: run the command again then.

    \b
    Examples:
      diego-docker-cache restore --app web
      diego-docker-cache restore --all --yes
      diego-docker-cache restore --org prod --out plan.jsonl
      diego-docker-cache restore --apply plan.jsonl
    """
    applying = Applying(Target(config_path, is_direct), max_in_flight, is_sure)
    if apply_file is not None and (not filters.selects_all or is_all or out is not None):
        raise click.UsageError(
            "a plan in a file is applied as it is: give no filters, no --all and no --out with it"
        )
    if apply_file is None and filters.selects_all and not is_all:
        raise click.UsageError("which apps? give a filter such as --app NAME, or --all")
    read = None if apply_file is None else _read_plan(apply_file, "source", applying.target)

    async def work(client: AdminClient) -> int:
        plan = read if read is not None else await client.plan(filters, PlanOptions("source"))
        show_plan(output, plan)
        _report_no_match(output, plan, filters)
        if out is not None:
            _save_plan(output, out, plan, applying.target)
            _refuse_incomplete(plan)
            return CHANGES_PENDING if is_pending(plan) else 0
        await _apply(output, client, plan, applying)
        _refuse_not_restored(plan)
        return 0

    with explaining_interruption(lambda: _what_is_left(applying)):
        status = call(applying.target, work)
    sys.exit(status)


def _what_is_left(applying: Applying) -> str:
    if not applying.has_begun:
        return "nothing was changed"
    return (
        "no further migration is started, and those that have begun run to their end "
        "(`migrations` lists them); run the command again for the rest"
    )


def _command(target: Target, *arguments: str) -> str:
    """Write a command line that works with the same daemon as this command."""
    context = click.get_current_context()
    source = context.get_parameter_source("config_path")
    is_given = source is not click.core.ParameterSource.ENVIRONMENT
    config = ("--config", str(target.config_path)) if is_given else ()
    direct = ("--direct",) if target.is_direct else ()
    return shlex.join((PROGRAM, arguments[0], *config, *direct, *arguments[1:]))


def _read_plan(path: Path, goal: str, target: Target) -> PlanDocument:
    try:
        plan = PlanDocument.from_text(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.UsageError(f"cannot read {path}: {reason}") from error
    found = plan.end["goal"]
    if found != goal:
        what = "back to the sources" if found == "source" else "to the copies"
        right = _command(target, GOALS[found], "--apply", str(path)) if found in GOALS else "a newer program"
        raise Invalid("plan", "other-goal", f"{path} is a plan {what}: apply it with: {right}")
    return plan


def _save_plan(output: Output, path: Path, plan: PlanDocument, target: Target) -> None:
    try:
        path.write_text(plan.text(), encoding="utf-8")
    except OSError as error:
        raise Unavailable("plan", "not-written", f"cannot write {path}: {error.strerror}") from error
    if plan.end["problems"]:
        output.note(f"saved to {path}; it is incomplete and cannot be applied")
        return
    apply = _command(target, GOALS[plan.end["goal"]], "--apply", str(path))
    output.note(f"saved to {path}; apply it with: {apply}")


def _report_no_match(output: Output, plan: PlanDocument, filters: Filters) -> None:
    """Tell filters that match nothing, perhaps for a typo, from apps for which nothing is to be done."""
    end = plan.end
    is_known = end["considered"] or end["considered_droplets"]
    if not (is_known or end["problems"] or end["droplet_problems"]):
        report_no_match(output, written_filters(filters))


def _refuse_not_restored(plan: PlanDocument) -> None:
    """Report that something selected cannot be restored, or not yet."""
    skipped = [*plan.skipped, *plan.skipped_droplets]
    rows = [row for row in skipped if row["state"] in {"failed", "pending"}]
    if rows:
        what = f"{len(rows)} of the apps cannot be restored, or not now: {rows[0]['reason']}"
        raise NotAllDone("admin", "not-all-done", what)
    if plan.end["droplet_problems"]:
        raise NotAllDone("admin", "not-all-done", plan.end["droplet_problems"][0])


def _refuse_incomplete(plan: PlanDocument) -> None:
    if plan.end["problems"]:
        raise Invalid("admin", "plan-incomplete", f"{plan.end['problems'][0]}; the plan cannot be applied")


async def _apply(output: Output, client: AdminClient, plan: PlanDocument, applying: Applying) -> None:
    _refuse_incomplete(plan)
    if not (plan.migrations or plan.pins or plan.droplets):
        return
    if not applying.is_sure:
        await ask("Apply this plan?")
    applying.has_begun = True
    view = ApplyView(output, len(plan.migrations), len(changed_droplets(plan)), goal=plan.end["goal"])
    try:
        with view.showing():
            await _follow(client, plan, applying, view)
    except* (DockerCacheError, OSError) as group:
        raise _with_what_is_left(group.exceptions[0], view) from None
    view.sum_up()
    missed = [f"{len(view.not_done)} of {view.total} apps were not migrated"] if view.not_done else []
    if view.droplets_not_done:
        count = f"{len(view.droplets_not_done)} of {format_count(view.droplets, 'droplets')}"
        missed.append(f"{count} were not changed; a daemon that is not paused goes on by itself where it can")
    if missed:
        raise NotAllDone("admin", "not-all-done", ", and ".join(missed))


def _with_what_is_left(error: Exception, view: ApplyView) -> Exception:
    """Say in the error of a lost daemon what becomes of the plan: its orders end with the daemon."""
    if not isinstance(error, Unavailable) or error.code != ErrorCode.CUT:
        return error
    what = error.detail.removesuffix("; ask again")
    return Unavailable(
        error.system,
        error.code,
        f"{what}: {view.progress}; the daemon finishes those that have begun, also after its next start or "
        "as another instance (`migrations` lists them), and starts no other for this plan; run the command "
        "again for the rest",
    )


async def _follow(client: AdminClient, plan: PlanDocument, applying: Applying, view: ApplyView) -> None:
    """Apply a plan; the first Ctrl-C waits for migrations that have begun, the second leaves them.

    Raises:
        Interrupted: Not all of the plan was applied, since a person wanted it so.
    """
    stop, is_interrupted = asyncio.Event(), False

    async def follow() -> None:
        async with aclosing(client.apply(plan, applying.max_in_flight, stop)) as events:
            async for row in events:
                view.see(row)

    async with asyncio.TaskGroup() as group:
        copies = group.create_task(_show_copies(client, view, {row["source"] for row in plan.copies}))
        following = group.create_task(follow())

        def interrupt() -> None:
            nonlocal is_interrupted
            if is_interrupted:
                following.cancel()
                return
            is_interrupted = True
            view.report_interruption("waiting for them (again Ctrl-C leaves them to the daemon)")
            stop.set()

        try:
            with _on_interrupt(None if applying.target.is_direct else interrupt):
                await asyncio.wait([following])
        except asyncio.CancelledError:  # without a daemon this process itself waits for what has begun
            view.report_interruption("waiting for them (again Ctrl-C leaves them to the next run)")
            raise
        copies.cancel()
    if following.cancelled():
        raise Interrupted(
            f"interrupted: {view.progress}; the daemon finishes those that have begun (`migrations` lists "
            "them) and starts no other for this plan; run the command again for the rest"
        )
    if is_interrupted and not view.is_over:
        raise Interrupted(
            f"interrupted: {view.progress}, the others were not started; run the command again for the rest"
        )


@contextmanager
def _on_interrupt(handler: Callable[[], None] | None) -> Iterator[None]:
    """Let Ctrl-C call a handler for the length of a block; None leaves Ctrl-C as it is."""
    if handler is None:
        yield
        return
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, handler)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


async def _show_copies(client: AdminClient, view: ApplyView, sources: set[str]) -> None:
    if not sources or not view.is_live:
        return
    async with aclosing(client.watch_jobs()) as jobs:
        async for job in jobs:
            if job["source"] in sources:
                view.see_copy(job)
