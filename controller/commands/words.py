"""Writes numbers, sizes and times for people."""

import time

_SINGULARS = {
    "entries": "entry",
    "copies": "copy",
    "source registries": "source registry",
    "apps skipped": "app skipped",
    "apps not migrated": "app not migrated",
    "droplets skipped": "droplet skipped",
    "droplets not changed": "droplet not changed",
}


def format_count(count: int, plural: str) -> str:
    """Write how many there are of something that is named by its plural."""
    first, space, rest = plural.partition(" to ")
    singular = _SINGULARS.get(first, first.removesuffix("s"))
    return f"{count:,} {singular if count == 1 else first}{space}{rest}"


def format_size(count: float | None) -> str:
    """Write bytes in powers of ten, as registries do."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def format_duration(seconds: float) -> str:
    """Write a length of time in its largest one or two units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_age(at: float | None) -> str:
    """Write how long ago a time was."""
    return "never" if at is None else f"{format_duration(time.time() - at)} ago"


def format_wait(until: float | None) -> str:
    """Write how long it takes until a time; empty when there is none."""
    return "" if until is None else f"in {format_duration(until - time.time())}"


def format_time(at: float | None) -> str:
    """Write a time, in UTC."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
