"""The process around one pass: adapters, loops, configuration and the command line."""

PROGRAM = "diego-docker-cache"
__version__ = "0.1.0"
