"""Numbered changes of the schema, applied when the store opens."""
