"""Makes the rules of decisions from the config."""

from dataclasses import replace

from controller.config import Config
from controller.store.opening import Store
from reconcile.circuit_breaker import CircuitBreaker
from reconcile.observed import Rules
from reconcile.steps import PhaseLimits


def rules_of(config: Config, store: Store, limits: PhaseLimits) -> Rules:
    """Return what the operator decided in the config; the other limits of the protocol are as given."""
    return Rules(
        policy=config.policy,
        cache=config.cache_repositories,
        domains=frozenset(config.lrp_domains),
        running=config.running_policy,
        unseen_stagings=config.unseen_stagings,
        limits=replace(
            limits,
            bridge=config.bridge_timeout,
            start=config.start_timeout,
            routes=config.route_propagation_delay,
            drain=config.drain_delay,
            cloud_controller_sync=config.cloud_controller_sync_grace,
        ),
        own_store=store.store_id,
        may_bridge=store.journal.is_durable,
        drains_original=config.drain_original,
        max_in_flight=config.max_in_flight,
        circuit_breaker=CircuitBreaker(config.max_consecutive_failures, config.circuit_retry_after),
    )
