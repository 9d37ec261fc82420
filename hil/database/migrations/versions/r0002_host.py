"""Runs know their host: in a store that several hosts share, only that host sees whether a run still goes on."""

from alembic import context, op
from sqlalchemy import Column, Text, inspect

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    if "runs" not in context.config.attributes["parts"]:
        return
    if "host" not in (column["name"] for column in inspect(op.get_bind()).get_columns("runs")):
        op.add_column("runs", Column("host", Text, nullable=False, server_default=""))
