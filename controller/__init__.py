"""The process around one pass: adapters, loops, configuration and the command line."""
