"""Names settings that are also read without SQLAlchemy, which takes long to import."""

STORE_ID = "store_id"
"""The id of the store."""
