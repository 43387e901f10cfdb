"""Logins for registries: which one a request uses, and the challenges and tokens that carry it."""
