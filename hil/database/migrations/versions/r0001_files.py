"""Stores of the time before migrations were kept: SQLite files in which tables of later releases are missing."""

from alembic import context, op
from sqlalchemy import BigInteger, Column, inspect

from hil.database import schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Add what is missing; leases and runs stay as they are."""
    db, parts = op.get_bind(), context.config.attributes["parts"]
    if "leases" in parts and "fence" not in (column["name"] for column in inspect(db).get_columns("claims")):
        op.add_column("claims", Column("fence", BigInteger, nullable=False, server_default="0"))
    schema.make(db, parts)
