"""Runs the migrations on the connection that the store hands over, in its transaction."""

from alembic import context

from controller.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite changes a table by copying it, and can roll a change of the schema back, as PostgreSQL can.
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=connection.dialect.name != "mysql",
)
with context.begin_transaction():
    context.run_migrations()
