"""The metrics of what is told through the Loggregator agent."""

from controller.metrics.families import Families


class AppLogMetrics:
    """The lines for the logs of apps; the gauges are there where the config names an agent."""

    def __init__(self, families: Families) -> None:
        self.entries = families.counter(
            "app_log_entries",
            "Lines for the logs of apps, and counters for operators, by what became of them: sent to the "
            "Loggregator agent, dropped since too many waited, limited by the rate of their app, or refused",
            {"outcome": ("sent", "dropped", "limited", "refused")},
        )
        self.waiting = families.late_gauge(
            "app_log_entries_waiting", "Lines and counters that wait for the Loggregator agent"
        )
        self.agent_up = families.late_gauge(
            "loggregator_agent_up",
            "1 if the Loggregator agent took the last batch of lines; 0 if it did not",
        )
