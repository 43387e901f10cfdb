"""Bounds how many lines an app's log gets about its image, so that they never drown what the app says."""

from collections import OrderedDict

from reconcile.lrps import AppGuid

BURST = 30
"""Lines that an app may get at once: all of a few pushes with migrations of several processes."""

REFILL = 20.0
"""Seconds in which one more line is allowed."""

MOST_APPS = 10_000
"""Apps that are remembered; those whose last line is longest ago are forgotten first."""


class LineRates:
    """Says which lines are within each app's rate."""

    def __init__(self) -> None:
        self._left: OrderedDict[AppGuid, tuple[float, float]] = OrderedDict()

    def allows(self, app_guid: AppGuid, now: float) -> bool:
        """Whether an app may have another line, which then counts.

        Args:
            app_guid: Of the app.
            now: Seconds of a clock that nobody sets.
        """
        left, since = self._left.pop(app_guid, (float(BURST), now))
        left = min(float(BURST), left + max(0.0, now - since) / REFILL)
        is_allowed = left >= 1.0
        self._left[app_guid] = (left - 1.0 if is_allowed else left, now)
        while len(self._left) > MOST_APPS:
            self._left.popitem(last=False)
        return is_allowed
