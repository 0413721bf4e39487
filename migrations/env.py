"""Runs revisions over the connection that ``dualreg.catalog.upgrade`` passes in, inside its transaction.

Revisions are history: they import nothing of ``dualreg``, and write out the types and names that they need,
so that no later change of the code changes what they do. A test compares their outcome with the tables.

The release before may serve the same PostgreSQL database while they run, and go on until all its processes
were replaced. So revisions add: tables, indexes, and columns that may be NULL or have a ``server_default``,
since older processes write rows without them. What the code no longer uses is removed in the release after.

A revision may set, beside ``revision`` and ``down_revision``:

* ``oldest``: the oldest revision whose versions can use the database from then on. One that removes or
  changes something must set it, to the revision of the release that no longer used that. Older versions
  refuse to start then; otherwise they accept a revision that they do not know.
* ``transactional = False``: on PostgreSQL, it has no transaction, as ``CREATE INDEX CONCURRENTLY`` needs. It
  does nothing else, after ``DROP INDEX CONCURRENTLY IF EXISTS``: one that failed is run again. An index on a
  table that may be large is made like this, since any other way stops its writers.

On PostgreSQL, a statement waits one second for a lock, and the revision is run again if that was not enough.
Its own time is not limited; but what it has locked, requests wait for, and they give up after a while.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
