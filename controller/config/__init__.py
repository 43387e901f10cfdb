"""The config file as typed values: one JSON object with the key names of the Diego family.

The command line reads it once, at the start. All that is wrong with it is reported at once, each problem
with its key; `controller.preflight` then tries the files that it names.
"""

from controller.config.admin import AdminConfig
from controller.config.descriptions import descriptions_of
from controller.config.example import example
from controller.config.loading import load_config
from controller.config.loggregator import LoggregatorConfig
from controller.config.model import Config
from controller.config.sections import (
    FairSharesConfig,
    FormerRegistryConfig,
    RegistryConfig,
    RunningRuleConfig,
    SourceRegistryConfig,
    TrafficConfig,
)
from controller.config.values import parse_duration, parse_size, read_secret
from controller.config_file import ConfigError

__all__ = [
    "AdminConfig",
    "Config",
    "ConfigError",
    "FairSharesConfig",
    "FormerRegistryConfig",
    "LoggregatorConfig",
    "RegistryConfig",
    "RunningRuleConfig",
    "SourceRegistryConfig",
    "TrafficConfig",
    "descriptions_of",
    "example",
    "load_config",
    "parse_duration",
    "parse_size",
    "read_secret",
]
