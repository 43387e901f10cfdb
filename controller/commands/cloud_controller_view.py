"""Describes Cloud Controller, and what was done about its droplets, for `status`."""

import time

from controller.commands.tables import Row
from controller.commands.words import format_age, format_count, format_duration
from reconcile.droplets import DropletPhase

MOST_REASONS = 3
"""Reasons that `status` names; the command `droplets` shows all of them."""


def cloud_controller_pairs(row: Row | None) -> list[tuple[str, str]]:
    """Describe a Cloud Controller: names with their texts; nothing where none is configured."""
    if row is None:
        return []
    pairs = [("cloud controller", f"{row['url']}: {_standing(row)}")]
    if row["missing_scopes"]:
        scopes = ", ".join(row["missing_scopes"])
        pairs.append(("MISSING SCOPES", f"{scopes}: give them to the client in UAA, see `doctor`"))
    return [*pairs, ("droplets", _droplets(row))]


def _standing(row: Row) -> str:
    if row["failing_since"] is not None:
        since = format_duration(time.time() - row["failing_since"])
        return f"FAILING for {since}: {row['error']}; apps are cached and migrated nevertheless"
    if row["reachable_since"] is not None:
        since = format_duration(time.time() - row["reachable_since"])
        wait = format_duration((row["requests_renewed_at"] or 0.0) - time.time())
        return f"reachable for {since}, {format_count(row['requests_left'], 'requests')} left for {wait}"
    return "not asked yet"


def _droplets(row: Row) -> str:
    counts = row["droplets_by_phase"]
    known = ", ".join(f"{counts[str(phase)]:,} {phase}" for phase in DropletPhase if counts.get(str(phase)))
    listed = f"listed {format_age(row['droplets_listed_at'])}"
    texts = [known or "none", listed]
    if not row["updates_droplets"]:
        texts.insert(1, "update_droplets is off: none is changed")
    waiting = sorted(row["waiting_by_reason"].items(), key=lambda each: (-each[1], each[0]))
    if waiting:
        named = ", ".join(f"{count:,} {reason}" for reason, count in waiting[:MOST_REASONS])
        more = " and others" if len(waiting) > MOST_REASONS else ""
        texts.append(f"not patched: {named}{more}, see `droplets`")
    return "; ".join(texts)
