"""Cache jobs."""
