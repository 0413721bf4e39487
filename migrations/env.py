"""Runs revisions over the connection that ``dualreg.catalog.upgrade`` passes in, inside its transaction.

Revisions are history: they import nothing of ``dualreg``, and write out the types and names that they need,
so that no later change of the code changes what they do. A test compares their outcome with the tables.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
