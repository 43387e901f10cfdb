"""Gathers the metrics of one process, and decides which of them a scraper gets."""

from prometheus_client import CollectorRegistry, ProcessCollector

from controller.metrics.bbs import BbsMetrics
from controller.metrics.cloud_controller import CloudControllerMetrics, DropletMetrics
from controller.metrics.copies import CopyMetrics, JobMetrics
from controller.metrics.exposition import Exposition
from controller.metrics.families import Families, Family, Reach
from controller.metrics.instance import InstanceMetrics
from controller.metrics.loggregator import AppLogMetrics
from controller.metrics.lrps import LrpMetrics, MigrationMetrics
from controller.metrics.registries import RegistryMetrics


class Metrics:
    """The metrics of one process.

    Attributes:
        registry: Has all samples, also those that this instance does not expose.
        declared: What the reference says of each family, in its order.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.declared = list[Family]()
        self._is_active = False
        ProcessCollector(registry=self.registry)
        every = Families(self.registry, Reach.EVERY, self.declared)
        active = Families(self.registry, Reach.ACTIVE, self.declared)
        self.instance = InstanceMetrics(every, active)
        self.bbs = BbsMetrics(active)
        self.lrps = LrpMetrics(active)
        self.migrations = MigrationMetrics(active)
        self.jobs = JobMetrics(active)
        self.copies = CopyMetrics(active)
        self.registries = RegistryMetrics(active)
        self.cloud_controller = CloudControllerMetrics(active)
        self.droplets = DropletMetrics(active)
        self.app_logs = AppLogMetrics(active)

    def became_active(self) -> None:
        """Expose what the active instance alone knows."""
        self._is_active = True

    @property
    def exposed(self) -> Exposition:
        """The samples that a scraper gets."""
        hidden = {
            family.name for family in self.declared if family.kind == "gauge" and family.reach is Reach.ACTIVE
        }
        return Exposition(self.registry, hidden, lambda: self._is_active)
