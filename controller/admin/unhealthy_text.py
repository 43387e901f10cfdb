"""Describes unhealthy registries and a database that is away, as the daemon reports them, in words."""

from collections.abc import Mapping

from controller.admin.rows import Row


def describe_unhealthy(row: Row, since: str) -> tuple[str, str]:
    """Name a registry that is unhealthy, and say since when, what is wrong, and what waits for it."""
    if row["private"]:
        name, use = "private registry", f" for {'pulls' if row['use'] == 'pull' else 'pushes'}"
        effect = _EFFECTS[row["use"]]
    else:
        name, use, effect = f"source {row['registry']}", "", ""
    end = _waiting({"cache jobs": row["waiting_jobs"], "LRPs": row["waiting_lrps"]})
    return name, f"UNHEALTHY{use} {since}: {row['fault']}: {row['error']}{effect}; {end}"


def describe_outage(row: Row, since: str) -> str:
    """Say since when the database is away, what it says, and what waits for it."""
    counts = {
        "migrations": row["waiting_migrations"],
        "LRPs": row["waiting_lrps"],
        "cache jobs": row["waiting_jobs"],
    }
    return f"UNAVAILABLE {since}: {row['error']}; nothing is begun, apps go on; {_waiting(counts)}"


def _waiting(counts: Mapping[str, int]) -> str:
    """Say how many of what wait for something; the names are in the plural."""
    shown = [
        f"{count:,} {noun if count != 1 else noun.removesuffix('s')}"
        for noun, count in counts.items()
        if count
    ]
    if not shown:
        return "nothing waits for it"
    names = " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
    return f"{names} {'waits' if sum(counts.values()) == 1 else 'wait'} for it"


_EFFECTS = {
    "pull": "; no app is migrated to it, and new instances of migrated apps may not start",
    "push": "; nothing can be copied to it",
}
