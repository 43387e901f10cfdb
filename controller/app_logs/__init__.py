"""Tells app developers what happens to their images, in the logs of their apps."""

from controller.app_logs.counters import component_counters
from controller.app_logs.listener import AppLogs
from controller.app_logs.sending import Agent, LogQueue

__all__ = ["Agent", "AppLogs", "LogQueue", "component_counters"]
