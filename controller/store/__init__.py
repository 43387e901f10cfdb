"""Records in SQL: what must outlive the process, and the lock that keeps it to one process.

`opening` is for the daemon, `inspection` for whoever looks at its database. Only what the daemon needs
imports SQLAlchemy. `reconcile.records` says what a record means and which changes are legal.
"""
