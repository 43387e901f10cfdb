"""The config file: what is accepted, and how clearly everything else is refused."""
