"""Names settings that are read without SQLAlchemy too, which would cost commands a third of a second."""

STORE_ID = "store_id"
"""The id of the store, made once."""
