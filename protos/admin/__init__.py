"""Our own admin API."""
