"""A simulated Loggregator agent: the real protocol on loopback, in memory."""

from tests.simulators.loggregator.agent import SERVER_NAME, Agent, Fault, serve_agent
from tests.simulators.loggregator.display import cf_logs, cf_push

__all__ = ["SERVER_NAME", "Agent", "Fault", "cf_logs", "cf_push", "serve_agent"]
