"""Hands envelopes to the Loggregator agent of this machine, over gRPC with mutual TLS."""

from controller.loggregator.client import AgentClient, open_agent
from controller.loggregator.connection import AgentTls
from controller.loggregator.envelopes import Component

__all__ = ["AgentClient", "AgentTls", "Component", "open_agent"]
