"""Bring a store to this release: a new one is made at once, one of an earlier release goes through the migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from hil.database import schema
from hil.database.connection import Database, ServerConnection, check_version, version_of, writing

MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = "SELECT pg_advisory_xact_lock(4802132)"
"""Of several processes that come to a server at once, one makes the tables."""
_ALONE = Lock()
"""Alembic keeps what it works on in its module: one thread at a time."""


def bring_up(db: Database, parts: Collection[str], what: str) -> None:
    """Make the tables of these parts, or change those of an earlier release, all or nothing; durably.

    Raises ConfigurationError when ``what``, the store, is of a later release, or this user may not make tables in it.
    """
    with writing(db, lock=_LOCK):
        if not check_version(version_of(db), what):
            make(db, parts)


def make(db: Database, parts: Collection[str]) -> None:
    """Do the same within a transaction."""
    with _sqlalchemy(db) as connection:
        known = inspect(connection).get_table_names()
        if any(table.name in known for part in parts for table in schema.PARTS[part]):
            _migrate(connection, parts)
        else:
            schema.make(connection, parts)
            schema.stamp(connection)


def _migrate(connection: Connection, parts: Collection[str]) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "parts": parts})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _ALONE:
        command.upgrade(config, "head")


@contextmanager
def _sqlalchemy(db: Database) -> Iterator[Connection]:
    """Yield an open connection as SQLAlchemy's; the transaction stays the caller's."""
    raw: Any = db.raw if isinstance(db, ServerConnection) else db
    url = "postgresql+psycopg://" if isinstance(db, ServerConnection) else "sqlite://"
    engine = create_engine(url, creator=lambda: raw, poolclass=StaticPool)
    for ends in ("do_commit", "do_rollback", "do_close", "do_terminate"):
        setattr(engine.dialect, ends, lambda *_: None)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as exc:
        if isinstance(db, ServerConnection):
            raise db.server.explained(exc.orig) from None  # type: ignore[arg-type]
        if isinstance(exc.orig, sqlite3.Error):
            raise exc.orig from None
        raise
