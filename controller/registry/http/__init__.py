"""HTTP to registries: connections, their limits, retries and redirects, and what a refusal means."""
