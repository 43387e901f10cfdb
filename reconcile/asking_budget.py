"""Spreads over time how often source registries are asked whether a tag has moved, when nothing says so.

After a start of the daemon, a lost event stream or a take-over by another instance, a staging of any app may
have been missed, so each app that is to be migrated has its source asked again. When that happens again and
again, or to thousands of apps at once, the registries must not pay for it. Pure; the caller brings the clock.
"""

from collections import OrderedDict

AT_ONCE = 30
"""Sources of one registry that are asked without a pause."""

EVERY = 1.0
"""Seconds after which one more source of a registry may be asked."""

MOST_HOSTS = 1000
"""Registries that are remembered, those asked last."""


class AskingBudget:
    """When the next source of each registry may be asked."""

    def __init__(self) -> None:
        self._all_asked_at: OrderedDict[str, float] = OrderedDict()

    def pause(self, host: str, now: float) -> float:
        """Take the next turn at a registry, and return the seconds until it comes.

        Args:
            host: Of the registry.
            now: Seconds of a clock that nobody sets.
        """
        all_asked_at = max(self._all_asked_at.pop(host, now), now) + EVERY
        self._all_asked_at[host] = all_asked_at
        if len(self._all_asked_at) > MOST_HOSTS:
            self._all_asked_at.popitem(last=False)
        return max(0.0, all_asked_at - now - AT_ONCE * EVERY)
