"""How alembic reaches the database: on the connection that `falgate migrate` hands it."""

from alembic import context

from app.db import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
