"""Builds the loops that reconcile droplets, where a Cloud Controller is configured, and what wakes them."""

from dataclasses import dataclass

from controller.admin.droplets import AdminDroplets, LeftDroplets
from controller.app_placements import AppPlacements
from controller.assembly.resources import OpenResources
from controller.cacher import Cacher
from controller.canary import CanaryLoop, DropletPulls, NullCanaryLoop
from controller.config import Config
from controller.droplets import (
    DropletDependencies,
    DropletObstacles,
    Droplets,
    DropletSurvey,
    KnownDroplets,
    UnchangedDroplets,
)
from controller.health_loop import HealthLoop
from controller.job_listeners import JobListeners
from controller.lrp_index import LrpIndex
from controller.migration_failures import MigrationFailures
from controller.pass_listeners import PassListeners
from controller.presence import PresenceLoop
from controller.reachability import NullMode, Reachability
from controller.verifier import CopyVerifier
from reconcile.observed import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class DropletParts:
    """What droplets share with the other loops, and what wakes them."""

    known: KnownDroplets
    index: LrpIndex
    placements: AppPlacements
    cacher: Cacher
    listeners: JobListeners
    failures: MigrationFailures
    listeners_of_passes: PassListeners
    cells: CanaryLoop | NullCanaryLoop
    presence: PresenceLoop
    verifier: CopyVerifier
    mode: Reachability | NullMode
    health: HealthLoop


@dataclass(frozen=True, slots=True)
class AssembledDroplets:
    """The loops that reconcile droplets, and what calls of operators reach of these."""

    loops: Droplets | UnchangedDroplets
    for_operators: AdminDroplets


def assemble_droplets(
    config: Config, opened: OpenResources, rules: Rules, parts: DropletParts
) -> AssembledDroplets:
    """Build what reconciles droplets; nothing does where Cloud Controller is not configured or only read."""
    api, store = opened.cloud_controller, opened.store
    if api is None or not config.update_droplets:
        return AssembledDroplets(UnchangedDroplets(), LeftDroplets(store.droplets, api))
    pulls = DropletPulls(parts.cells, cells_have_login=rules.pull_credentials is not None)
    dependencies = DropletDependencies(
        api=api,
        records=store.droplets,
        bindings=store.records,
        jobs=store.records,
        images=store.records,
        copies=store.records,
        requests=parts.cacher,
        index=parts.index,
        lrps=opened.bbs,
        obstacles=DropletObstacles(
            registry=opened.health,
            breakers=parts.failures,
            pulls=pulls,
            lrps=store.records,
            placements=parts.placements,
        ),
        registry=opened.engine,
        verifier=parts.verifier,
        presence=parts.presence,
        overrides=opened.control,
        mode=parts.mode,
        rules=rules,
        process=opened.process,
        check_active=opened.store_marker.check,
    )
    droplets = Droplets(dependencies, known=parts.known, interval=config.droplet_sync_interval)
    parts.listeners.of_apps.append(droplets.job_ended)
    parts.presence.of_copies.append(droplets.look_at_copy)
    parts.health.of_served_pulls.append(droplets.look_at_waiting)
    pulls.listen(droplets.look_at_waiting)
    passes = parts.listeners_of_passes
    passes.of_ends.append(droplets.migration_ended)
    passes.of_recoveries.append(droplets.copy_works_again)
    passes.of_failing_former.append(droplets.former_copy_failed)
    opened.control.of_pins.append(droplets.look_at_app)
    opened.control.of_resumption.append(droplets.look_at_all)
    if isinstance(parts.mode, Reachability):
        parts.mode.of_changes.append(droplets.look_at_all)
    survey = DropletSurvey(droplets, dependencies, known=parts.known, records=store.droplets, api=api)
    return AssembledDroplets(droplets, survey)
