"""The schema, step by step: alembic's environment and its versions."""
