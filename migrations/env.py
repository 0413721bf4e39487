"""Runs migrations over the connection that ``dualreg.catalog.upgrade`` hands in, inside its transaction."""

from alembic import context

from dualreg.catalog.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,
    user_module_prefix="",  # the template imports our column types by name
)
context.run_migrations()
