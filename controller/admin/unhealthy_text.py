"""Describes unhealthy registries, as the daemon reports them, in words."""

from controller.admin.rows import Row


def describe_unhealthy(row: Row, since: str) -> tuple[str, str]:
    """Name a registry that is unhealthy, and say since when, what is wrong, and what waits for it."""
    if row["private"]:
        name, use = "private registry", f" for {'pulls' if row['use'] == 'pull' else 'pushes'}"
        effect = _EFFECTS[row["use"]]
    else:
        name, use, effect = f"source {row['registry']}", "", ""
    waiting = [
        f"{count:,} {noun if count != 1 else noun.removesuffix('s')}"
        for count, noun in ((row["waiting_jobs"], "cache jobs"), (row["waiting_lrps"], "LRPs"))
        if count
    ]
    wait = "waits" if row["waiting_jobs"] + row["waiting_lrps"] == 1 else "wait"
    end = f"; {' and '.join(waiting)} {wait} for it" if waiting else "; nothing waits for it"
    return name, f"UNHEALTHY{use} {since}: {row['fault']}: {row['error']}{effect}{end}"


_EFFECTS = {
    "pull": "; no app is migrated to it, and new instances of migrated apps may not start",
    "push": "; nothing can be copied to it",
}
