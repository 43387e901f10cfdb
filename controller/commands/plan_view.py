"""Shows a plan for review."""

from collections import Counter
from collections.abc import Sequence

from controller.admin.documents import PlanDocument
from controller.commands.droplet_plan_view import (
    SKIPPED_DROPLETS,
    changed_droplets,
    droplet_summary,
    show_droplets,
    skipped_droplets,
)
from controller.commands.meanings import explain
from controller.commands.output import Output
from controller.commands.tables import Column, Row
from controller.commands.words import format_count, format_size, format_time
from reconcile.reasons import AppState, Reason, reason_from_text

COPIES = (
    Column("image", lambda row: row["source"]),
    Column("apps", lambda row: f"{row['lrps']:,}", priority=1, is_number=True),
    Column("to-copy", lambda row: format_size(row["bytes"]) if row["known"] else "unknown", is_number=True),
    Column(
        "requests", lambda row: f"{row['requests']:,}" if row["known"] else "", priority=3, is_number=True
    ),
    Column("problem", lambda row: row["problem"], priority=2, is_prose=True),
)

REGISTRIES = (
    Column("source-registry", lambda row: row["registry"]),
    Column("images", lambda row: f"{row['images']:,}", is_number=True),
    Column("to-copy", lambda row: row["bytes"], is_number=True),
    Column("requests", lambda row: row["requests"], is_number=True),
)


def _target_of(row: Row) -> str:
    if row["reason"] == Reason.LOGIN_OUTDATED:
        return "the same copy with another login"
    return row["to_rootfs"].removeprefix("docker://") or "its copy"


_APP = Column("app", lambda row: row["app_name"] or row["app_guid"])
_ORG = Column("org", lambda row: row["org_name"], priority=4)
_SPACE = Column("space", lambda row: row["space_name"], priority=3)
_PROCESS_GUID = Column("process-guid", lambda row: row["process_guid"], priority=6)

MIGRATIONS = (
    _APP,
    _ORG,
    _SPACE,
    Column("running", lambda row: f"{row['running']}/{row['instances']}", priority=1, is_number=True),
    Column("strategy", lambda row: row["strategy"]),
    Column("from", lambda row: row["from_rootfs"].removeprefix("docker://"), priority=2),
    Column("to", _target_of, priority=5),
    _PROCESS_GUID,
)

RESTORES = (
    *MIGRATIONS[:5],
    Column("to", lambda row: row["to_rootfs"].removeprefix("docker://"), priority=2),
    Column("from", lambda row: row["from_rootfs"].removeprefix("docker://"), priority=5),
    _PROCESS_GUID,
)

_CONTENT = Column(
    "content", lambda row: "current tag" if row["gets_unseen_content"] else "as staged", priority=1
)

PINS = (
    _APP,
    _ORG,
    _SPACE,
    Column("runs-from", lambda row: row["rootfs"].removeprefix("docker://"), priority=1),
    _PROCESS_GUID,
)

SKIPPED = (
    _APP,
    _ORG,
    _SPACE,
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("detail", lambda row: row["detail"], priority=1, is_prose=True),
    _PROCESS_GUID,
)


def is_pending(plan: PlanDocument) -> bool:
    """Whether something is to be changed, or is being changed."""
    is_moving = any(row["state"] == "migrating" for row in [*plan.skipped, *plan.skipped_droplets])
    return bool(plan.migrations) or is_moving or bool(changed_droplets(plan))


def plan_rows(plan: PlanDocument) -> list[Row]:
    """List a plan's entries as rows that say what kind they are."""
    parts = (
        ("copy", plan.copies),
        ("migration", plan.migrations),
        ("pin", plan.pins),
        ("skipped", plan.skipped),
        ("droplet", plan.droplets),
        ("skipped-droplet", plan.skipped_droplets),
        ("plan", [plan.end]),
    )
    return [{"kind": kind, **row} for kind, rows in parts for row in rows]


def show_plan(output: Output, plan: PlanDocument) -> None:
    """Write a plan: what is copied, what is migrated, what is skipped and why."""
    if output.is_json:
        output.json_lines(plan_rows(plan))
        return
    end, copies, migrations = plan.end, plan.copies, plan.migrations
    direction = "to their copies in" if end["goal"] == "cache" else "back to their sources from"
    output.say(
        f"Plan of {format_time(end['made_at'])} UTC: apps {direction} {end['cache_registry']}",
        style="heading",
    )
    output.say(f"{format_count(end['considered'], 'LRPs')} considered")
    output.say()
    if copies:
        output.listing(copies, COPIES, what="images to copy")
        output.say()
        output.listing(_by_registry(copies), REGISTRIES, what="source registries")
        output.say()
    output.listing(migrations, _columns(plan), what="apps to migrate")
    if plan.pins:
        output.say()
        output.listing(plan.pins, PINS, what="apps to pin to the sources that they run from")
    show_droplets(output, plan)
    not_cached = [row for row in plan.skipped if row["state"] != "cached"]
    if not_cached:
        output.say()
        output.listing(not_cached, SKIPPED, what="apps skipped")
    not_patched = skipped_droplets(plan)
    if not_patched:
        output.say()
        output.listing(not_patched, SKIPPED_DROPLETS, what="droplets skipped")
    explain(output, [row["reason"] for row in [*not_cached, *not_patched]])
    output.say()
    _show_summary(output, plan, not_cached)


def _columns(plan: PlanDocument) -> Sequence[Column]:
    """Choose the columns of the apps to migrate: what they get is shown if some stagings were not seen."""
    if plan.end["goal"] == "source":
        return RESTORES
    return (
        (*MIGRATIONS, _CONTENT) if any(row["gets_unseen_content"] for row in plan.migrations) else MIGRATIONS
    )


def _show_summary(output: Output, plan: PlanDocument, not_cached: Sequence[Row]) -> None:
    cached = len(plan.skipped) - len(not_cached)
    strategies = Counter(row["strategy"] for row in plan.migrations)
    by_strategy = ", ".join(f"{count:,} by {strategy}" for strategy, count in sorted(strategies.items()))
    how = f" ({by_strategy})" if by_strategy else ""
    output.say(
        f"{format_count(len(plan.migrations), 'apps')} to migrate{how}, "
        f"{format_count(len(plan.copies), 'images')} to copy, {len(not_cached):,} skipped, "
        f"{cached:,} already run from their copies",
        style="heading",
    )
    in_flight = sum(reason_from_text(row["reason"]).state is AppState.MIGRATING for row in plan.migrations)
    if in_flight and plan.end["goal"] == "source":
        output.say(
            f"{in_flight:,} of these are being migrated now: they turn back, or are restored after that"
        )
    elif in_flight:
        output.say(f"{in_flight:,} of these are being restored now: they are migrated after that")
    unseen = sum(row["gets_unseen_content"] for row in plan.migrations)
    if unseen:
        output.say(
            f"{unseen:,} of these run from a tag, and their staging was not seen: they get what the "
            "tag means now; with unseen_stagings they can be left as they are"
        )
    logins = sum(row["reason"] == Reason.LOGIN_OUTDATED for row in plan.migrations)
    if logins:
        output.say(
            f"{logins:,} of these run from their copies with another login than cells are to use, which they "
            "get in place where the BBS stores it, and otherwise by a migration to the same copy"
        )
    for line in droplet_summary(plan):
        output.say(line)
    if not (is_pending(plan) or plan.pins or plan.droplets or not_cached or skipped_droplets(plan)):
        output.say("Nothing is to be done")
    for problem in plan.end["droplet_problems"]:
        output.say(f"DROPLETS: {problem}; apps are migrated nevertheless", style="problem")
    for problem in plan.end["problems"]:
        output.say(f"INCOMPLETE: {problem}; this plan cannot be applied", style="problem")
    for obstacle in plan.end["obstacles"]:
        output.say(f"NOT NOW: {obstacle}; no app is migrated meanwhile", style="problem")


def _by_registry(copies: Sequence[Row]) -> list[Row]:
    rows = list[Row]()
    for registry in sorted({row["registry"] for row in copies}):
        of_registry = [row for row in copies if row["registry"] == registry]
        known = [row for row in of_registry if row["known"]]
        more = "" if len(known) == len(of_registry) else " and more"
        rows.append(
            {
                "registry": registry,
                "images": len(of_registry),
                "bytes": format_size(sum(row["bytes"] for row in known)) + more,
                "requests": f"{sum(row['requests'] for row in known):,}{more}",
            }
        )
    return rows
