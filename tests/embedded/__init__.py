"""The embedded PostgreSQL, and every way to end it."""
