"""Commands that plan and apply: reconcile, to the copies, and restore, back to the sources."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.admin.client import AdminClient
from controller.admin.documents import PlanDocument
from controller.admin.questions import Chosen, PlanOptions
from controller.commands.options import (
    chosen_from,
    config_option,
    direct_option,
    filter_options,
    max_in_flight_option,
    output_option,
    yes_option,
)
from controller.commands.output import Format, Output
from controller.commands.plans import is_pending, show_plan
from controller.commands.sessions import Target, call
from reconcile.errors import DockerCacheError, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from controller.commands.applying import ApplyView

CHANGES_PENDING = 2

MAKE_ONE = "\0"
"""What --apply is without a file, and what nobody can type: a plan is made first."""


class Declined(click.ClickException):
    """A person did not want the plan to be applied."""


class NotAllDone(DockerCacheError):
    """Some LRPs of a plan were not moved."""


@dataclass(frozen=True, slots=True)
class Applying:
    """How a plan is applied."""

    max_in_flight: int | None
    is_sure: bool


@click.command()
@config_option
@direct_option
@output_option
@filter_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan to this file.")
@click.option(
    "--apply",
    "apply_file",
    is_flag=False,
    flag_value=MAKE_ONE,
    default=None,
    metavar="[FILE]",
    help="Apply the plan in this file, or without a file the one that is shown.",
)
@yes_option
@max_in_flight_option
@click.option(
    "--strategy", type=click.Choice(["bridge", "recreate"]), help="Only LRPs that would be moved so."
)
@click.option(
    "--cache-missing/--no-cache-missing",
    "cache_missing",
    default=True,
    help="Copy images that have no copy yet, or leave their apps alone.",
)
@click.option("--include-pinned", is_flag=True, help="Also apps that `restore` has put back.")
def reconcile(  # noqa: PLR0913 - each is an option
    *,
    config_path: Path,
    is_direct: bool,
    wanted: Format,
    out: Path | None,
    apply_file: str | None,
    is_sure: bool,
    max_in_flight: int | None,
    strategy: str | None,
    cache_missing: bool,
    include_pinned: bool,
    **filters: tuple[str, ...],
) -> None:
    r"""Show what it takes to have apps run from their copies, and do it with --apply.

    Without --apply nothing is changed, and the status is 2 when something is pending, 0 when not. With it
    exactly the plan is applied, or all of it refused when the world has moved under it. It can be
    interrupted: what was begun comes to its end, and the rest is for a second run, of the same file too.

    \b
    Examples:
      diego-docker-cache reconcile --config docker_cache.json --org prod --out plan.jsonl
      diego-docker-cache reconcile --config docker_cache.json --apply plan.jsonl
      diego-docker-cache reconcile --config docker_cache.json --app web --apply --yes
    """
    output, chosen = Output(wanted), chosen_from(filters)
    options = PlanOptions("cache", strategy, only_cached=not cache_missing, include_pinned=include_pinned)
    applying = Applying(max_in_flight, is_sure)
    if apply_file == "":
        raise click.UsageError("--apply: the file has no name; for a new plan write --apply alone")
    file = None if apply_file in {None, MAKE_ONE} else Path(str(apply_file))
    if file is not None and (not chosen.is_everything or options != PlanOptions() or out is not None):
        raise click.UsageError("a plan in a file is applied as it is: give no filters and no --out with it")
    read = None if file is None else _read_plan(file)

    async def work(client: AdminClient) -> int:
        plan = read if read is not None else await client.plan(chosen, options)
        _refuse_nothing(plan, chosen)
        show_plan(output, plan)
        if out is not None:
            _write_plan(out, plan)
        if apply_file is None:
            _refuse_incomplete(plan)
            return CHANGES_PENDING if is_pending(plan) else 0
        await _apply(output, client, plan, applying)
        return 0

    sys.exit(_interruptible(Target(config_path, is_direct), work))


@click.command()
@config_option
@direct_option
@output_option
@filter_options
@click.option("--all", "is_all", is_flag=True, help="All apps, when no filter is given.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Only write the plan to this file."
)
@yes_option
@max_in_flight_option
def restore(  # noqa: PLR0913 - each is an option
    *,
    config_path: Path,
    is_direct: bool,
    wanted: Format,
    is_all: bool,
    out: Path | None,
    is_sure: bool,
    max_in_flight: int | None,
    **filters: tuple[str, ...],
) -> None:
    r"""Put apps back on the images that they ran from, and leave them there.

    They are moved again only by `reconcile --include-pinned`. New apps are still moved: `pause` stops that.

    \b
    Examples:
      diego-docker-cache restore --config docker_cache.json --app web
      diego-docker-cache restore --config docker_cache.json --all --yes
    """
    output, chosen = Output(wanted), chosen_from(filters)
    if chosen.is_everything and not is_all:
        raise click.UsageError("which apps? give a filter such as --app NAME, or --all")

    async def work(client: AdminClient) -> int:
        plan = await client.plan(chosen, PlanOptions("source"))
        _refuse_nothing(plan, chosen)
        show_plan(output, plan)
        if out is not None:
            _write_plan(out, plan)
            return CHANGES_PENDING if is_pending(plan) else 0
        await _apply(output, client, plan, Applying(max_in_flight, is_sure))
        _refuse_left_behind(plan)
        return 0

    sys.exit(_interruptible(Target(config_path, is_direct), work))


def _interruptible(target: Target, work: Callable[[AdminClient], Awaitable[int]]) -> int:
    try:
        return call(target, work)
    except KeyboardInterrupt:
        raise Declined(
            "interrupted: nothing more is begun for this plan, and what was begun comes to its end "
            "(`migrations` shows it); run the command again for the rest"
        ) from None


def _read_plan(path: Path) -> PlanDocument:
    try:
        return PlanDocument.from_text(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.UsageError(f"cannot read {path}: {reason}") from error


def _write_plan(path: Path, plan: PlanDocument) -> None:
    try:
        path.write_text(plan.text(), encoding="utf-8")
    except OSError as error:
        raise Unavailable("plan", "not-written", f"cannot write {path}: {error.strerror}") from error


def _refuse_nothing(plan: PlanDocument, chosen: Chosen) -> None:
    """Tell a filter that matches nothing, a typo perhaps, from an app for which nothing is to be done."""
    if not plan.end["looked_at"] and not plan.end["problems"] and not chosen.is_everything:
        raise NotFound("admin", "no-such-app", "no Docker LRP matches the filters; `apps` lists them")


def _refuse_left_behind(plan: PlanDocument) -> None:
    """Tell that something selected could not be put back, or not yet."""
    left = [row for row in plan.skipped if row["state"] in {"failed", "migrating"}]
    if left:
        what = f"{len(left)} of the apps cannot be put back, or are just being moved: {left[0]['reason']}"
        raise NotAllDone("admin", "not-all-done", what)


def _refuse_incomplete(plan: PlanDocument) -> None:
    if plan.end["problems"]:
        raise Invalid("admin", "plan-incomplete", f"{plan.end['problems'][0]}; the plan cannot be applied")


async def _apply(output: Output, client: AdminClient, plan: PlanDocument, applying: Applying) -> None:
    _refuse_incomplete(plan)
    if not (plan.migrations or plan.pins):
        return
    if not applying.is_sure:
        await _ask()
    from controller.commands.applying import ApplyView

    view = ApplyView(output, len(plan.migrations))
    try:
        with view.showing():
            await _follow(client, plan, applying, view)
    except* (DockerCacheError, OSError) as group:
        raise group.exceptions[0] from None
    view.sum_up()
    if view.not_done:
        raise NotAllDone(
            "admin", "not-all-done", f"{len(view.not_done)} of {len(plan.migrations)} apps were not moved"
        )


async def _follow(client: AdminClient, plan: PlanDocument, applying: Applying, view: "ApplyView") -> None:
    async with asyncio.TaskGroup() as group:
        copies = group.create_task(_show_copies(client, view, {row["source"] for row in plan.copies}))
        async with aclosing(client.apply(plan, applying.max_in_flight)) as news:
            async for row in news:
                view.see(row)
        copies.cancel()


async def _show_copies(client: AdminClient, view: "ApplyView", sources: set[str]) -> None:
    if not sources or not view.is_live:
        return
    async with aclosing(client.watch_jobs()) as jobs:
        async for job in jobs:
            if job["source"] in sources:
                view.see_copy(job)


async def _ask() -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give --yes")
    click.echo("Apply this plan? [y/N]: ", nl=False, err=True)
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)  # a thread that reads could not be interrupted
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Declined("nothing was changed")
