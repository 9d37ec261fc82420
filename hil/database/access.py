"""Access to a store of this release: its tables are made, or brought up from an earlier release, when need be."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from hil.database.connection import Database, Server, ServerConnection, check_version, version_of

PARTS = ("leases", "runs", "trials")


def make_current(db: Database, parts: Collection[str], what: str) -> None:
    """Make or change the tables of these parts when they are not those of this release.

    Raises ConfigurationError when ``what``, the store, is of a later release, or this user may not make tables in it.
    """
    if not check_version(version_of(db), what):
        from hil.database.migrate import bring_up  # takes half a second, and is hardly ever needed

        bring_up(db, parts, what)


@contextmanager
def opened(server: Server) -> Iterator[ServerConnection]:
    """Connect to a server whose tables are those of this release."""
    db = server.open()
    try:
        make_current(db, PARTS, f"the store {server}")
        yield db
    finally:
        db.close()
