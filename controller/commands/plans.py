"""Shows a plan to a person who is to judge it."""

from collections import Counter
from collections.abc import Sequence

from controller.admin.documents import PlanDocument
from controller.commands.apps import explain
from controller.commands.output import WIDE, WIDEST, Column, Output, Row, counted, moment, size

COPIES = (
    Column("image", lambda row: row["source"]),
    Column("apps", lambda row: f"{row['lrps']:,}", is_number=True),
    Column("to copy", lambda row: size(row["bytes"]) if row["known"] else "unknown", is_number=True),
    Column("requests", lambda row: f"{row['requests']:,}" if row["known"] else "", is_number=True),
    Column("problem", lambda row: row["problem"]),
)

REGISTRIES = (
    Column("source registry", lambda row: row["registry"]),
    Column("images", lambda row: f"{row['images']:,}", is_number=True),
    Column("to copy", lambda row: row["bytes"], is_number=True),
    Column("requests", lambda row: row["requests"], is_number=True),
)

MOVES = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("org / space", lambda row: f"{row['org_name']} / {row['space_name']}"),
    Column("instances", lambda row: f"{row['running']}/{row['instances']}", is_number=True),
    Column("strategy", lambda row: row["strategy"]),
    Column("from", lambda row: row["from_rootfs"].removeprefix("docker://")),
    Column("to", lambda row: row["to_rootfs"].removeprefix("docker://") or "its copy", least=WIDE),
    Column("process guid", lambda row: row["process_guid"], least=WIDEST),
)

MOVES_BACK = (
    *MOVES[:4],
    Column("to", lambda row: row["to_rootfs"].removeprefix("docker://")),
    Column("from", lambda row: row["from_rootfs"].removeprefix("docker://"), least=WIDE),
    MOVES[-1],
)

HOLDS = (
    MOVES[0],
    MOVES[1],
    Column("runs from", lambda row: row["rootfs"].removeprefix("docker://")),
)

LEFT = (
    Column("app", lambda row: row["app_name"] or row["app_guid"]),
    Column("org / space", lambda row: f"{row['org_name']} / {row['space_name']}"),
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("detail", lambda row: row["detail"]),
    Column("process guid", lambda row: row["process_guid"], least=WIDEST),
)


def is_pending(plan: PlanDocument) -> bool:
    """Whether something is to be changed, or is being changed."""
    return bool(plan.migrations) or any(row["state"] == "migrating" for row in plan.skipped)


def plan_rows(plan: PlanDocument) -> list[Row]:
    """Give a plan as rows that say what they are."""
    parts = (
        ("copy", plan.copies),
        ("migration", plan.migrations),
        ("pin", plan.pins),
        ("skipped", plan.skipped),
        ("plan", [plan.end]),
    )
    return [{"kind": kind, **row} for kind, rows in parts for row in rows]


def show_plan(output: Output, plan: PlanDocument) -> None:
    """Write a plan: what is copied, what is re-pointed, what is left alone and why."""
    if output.is_json:
        output.lines(plan_rows(plan))
        return
    end, copies, migrations = plan.end, plan.copies, plan.migrations
    way = "to their copies in" if end["goal"] == "cache" else "back to their sources from"
    output.say(f"Plan of {moment(end['made_at'])} UTC: apps {way} {end['cache_registry']}", style="bold")
    output.say(f"{counted(end['looked_at'], 'LRPs')} looked at\n")
    if copies:
        output.rows(copies, COPIES, what="images to copy")
        output.say("")
        output.rows(_by_registry(copies), REGISTRIES, what="source registries")
        output.say("")
    output.rows(migrations, MOVES if end["goal"] == "cache" else MOVES_BACK, what="apps to re-point")
    if plan.pins:
        output.say("")
        output.rows(plan.pins, HOLDS, what="apps on their sources, to be held there")
    shown = [row for row in plan.skipped if row["state"] != "cached"]
    if shown:
        output.say("")
        output.rows(shown, LEFT, what="apps left alone")
    explain(output, {row["reason"] for row in shown})
    output.say("")
    _sum_up(output, plan, shown)


def _sum_up(output: Output, plan: PlanDocument, shown: Sequence[Row]) -> None:
    cached = len(plan.skipped) - len(shown)
    strategies = Counter(row["strategy"] for row in plan.migrations)
    how = ", ".join(f"{count:,} by {strategy}" for strategy, count in sorted(strategies.items()))
    output.say(
        f"{counted(len(plan.migrations), 'apps')} to re-point{f' ({how})' if how else ''}, "
        f"{counted(len(plan.copies), 'images')} to copy, {len(shown):,} left alone, "
        f"{cached:,} run from their copies",
        style="bold",
    )
    for problem in plan.end["problems"]:
        output.say(f"INCOMPLETE: {problem}; this plan cannot be applied", style="red")


def _by_registry(copies: Sequence[Row]) -> list[Row]:
    rows = list[Row]()
    for registry in sorted({row["registry"] for row in copies}):
        mine = [row for row in copies if row["registry"] == registry]
        known = [row for row in mine if row["known"]]
        more = "" if len(known) == len(mine) else " and more"
        rows.append(
            {
                "registry": registry,
                "images": len(mine),
                "bytes": size(sum(row["bytes"] for row in known)) + more,
                "requests": f"{sum(row['requests'] for row in known):,}{more}",
            }
        )
    return rows
