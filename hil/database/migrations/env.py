"""Runs the migrations on the connection that was handed over, within its transaction (Alembic's entry)."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
