"""Hands envelopes to the Loggregator agent of this machine, over gRPC with mutual TLS."""

from controller.loggregator.client import AgentClient, open_agent
from controller.loggregator.envelopes import Component

__all__ = ["AgentClient", "Component", "open_agent"]
