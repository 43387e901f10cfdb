"""The metrics of the daemon, by what they are about: loops record them, adapters do not."""

from controller.metrics.all_metrics import Metrics

__all__ = ["Metrics"]
