"""Shows the part of a plan that is about droplets."""

from controller.admin.documents import PlanDocument
from controller.commands.output import Output
from controller.commands.tables import Column, Row
from controller.commands.words import format_count

_APP = Column("app", lambda row: row["app_name"] or row["app_guid"])
_ORG = Column("org", lambda row: row["org_name"], priority=4)
_SPACE = Column("space", lambda row: row["space_name"], priority=3)
_DROPLET_GUID = Column("droplet-guid", lambda row: row["droplet_guid"], priority=6)


def _use_of(row: Row) -> str:
    """Say what a droplet is for, as far as that can be seen."""
    if not row["newest"]:
        return "earlier revision"
    return "running app" if row["running"] else "app not running"


_USE = Column("used-by", _use_of, priority=1)
_HAS = Column("has", lambda row: row["from_image"], priority=2)

DROPLETS = (
    _APP,
    _ORG,
    _SPACE,
    _USE,
    _HAS,
    Column("gets", lambda row: row["to_image"] or "its copy", priority=5),
    _DROPLET_GUID,
)

RESTORED_DROPLETS = (
    _APP,
    _ORG,
    _SPACE,
    _USE,
    Column("gets", lambda row: row["to_image"], priority=2),
    Column("has", lambda row: row["from_image"], priority=5),
    _DROPLET_GUID,
)

PINNED_DROPLETS = (_APP, _ORG, _SPACE, _USE, _HAS, _DROPLET_GUID)

SKIPPED_DROPLETS = (
    _APP,
    _ORG,
    _SPACE,
    Column("state", lambda row: row["state"], is_state=True),
    Column("reason", lambda row: row["reason"]),
    Column("detail", lambda row: row["detail"], priority=1, is_prose=True),
    _DROPLET_GUID,
)


def changed_droplets(plan: PlanDocument) -> list[Row]:
    """List the droplets that something is written into."""
    return [row for row in plan.droplets if row["change"] != "pin"]


def skipped_droplets(plan: PlanDocument) -> list[Row]:
    """List the droplets that stay as they are although they do not name their copies."""
    return [row for row in plan.skipped_droplets if row["state"] != "cached"]


def show_droplets(output: Output, plan: PlanDocument) -> None:
    """Write which droplets get what; nothing where no droplet is changed."""
    changed = changed_droplets(plan)
    if changed:
        is_restore = plan.end["goal"] == "source"
        output.say()
        columns = RESTORED_DROPLETS if is_restore else DROPLETS
        output.listing(changed, columns, what="droplets to restore" if is_restore else "droplets to patch")
    pinned = [row for row in plan.droplets if row["change"] == "pin"]
    if pinned:
        output.say()
        output.listing(pinned, PINNED_DROPLETS, what="apps to pin to the sources that their droplets name")


def droplet_summary(plan: PlanDocument) -> list[str]:
    """Sum up what is done about droplets; nothing where there are none."""
    if not (plan.droplets or plan.skipped_droplets):
        return []
    changed, skipped = len(changed_droplets(plan)), len(skipped_droplets(plan))
    named = len(plan.skipped_droplets) - skipped
    what = "restore" if plan.end["goal"] == "source" else "patch"
    count = format_count(changed, f"droplets to {what}")
    lines = [f"{count}, {skipped:,} skipped, {named:,} already name their copies"]
    if changed and what == "restore":
        lines = [f"{count}, {skipped:,} skipped; the droplets of an app go first, its LRPs after them"]
    return lines
