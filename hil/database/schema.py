"""The tables of the store, the same in SQLite and in PostgreSQL.

A file holds one part of them: ``leases`` or ``runs``.  A server holds all parts.  Statements are plain SQL that both
understand (:mod:`hil.database.connection`): these tables say how a store is made, and migrations how one of an earlier
release gets there.  A new store is made at once as it is here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from secrets import token_hex
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql

from hil.database.connection import HEAD, KEPT_ENDS

TEXT = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")  # sorted as SQLite and Python sort
NUMBER = BigInteger().with_variant(Integer, "sqlite")
REAL_NUMBER: Double[float] = Double().with_variant(REAL, "sqlite")

METADATA = MetaData()


def _needed(name: str, kind: Any = TEXT) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _or(name: str, default: str = "") -> Column[Any]:
    return Column(name, TEXT, nullable=False, server_default=default)


def _claim() -> Column[Any]:
    return Column("claim", NUMBER, ForeignKey("claims.id", ondelete="CASCADE"), nullable=False)


LEASES = (
    Table(
        "claims",  # leases, and places in the queue for them
        METADATA,
        Column("id", NUMBER, primary_key=True),
        Column("within", NUMBER),
        *map(_needed, ("boards", "holder", "purpose")),
        _needed("by_person", NUMBER),
        _needed("place"),
        *(_needed(name, NUMBER) for name in ("pid", "start_ticks")),
        *(_needed(name, REAL_NUMBER) for name in ("ttl_s", "renewed_s")),
        Column("renewals", NUMBER, nullable=False, server_default="0"),
        _needed("asked_utc"),
        Column("taken_utc", TEXT),
        _needed("renewed_utc"),
        Column("fence", NUMBER, nullable=False, server_default="0"),
        sqlite_autoincrement=True,
    ),
    Table(
        "held",  # the rules never grant a board twice; should they ever, this table refuses
        METADATA,
        Column("board", TEXT),
        Column("nested", NUMBER),
        _claim(),
        PrimaryKeyConstraint("board", "nested"),
        sqlite_with_rowid=False,
    ),
    Table(
        "sightings",  # when each clock first saw a renewal that was made on another
        METADATA,
        _claim(),
        Column("clock", TEXT),
        _needed("renewals", NUMBER),
        _needed("at_s", REAL_NUMBER),
        PrimaryKeyConstraint("claim", "clock"),
        sqlite_with_rowid=False,
    ),
    Table(
        "marks",
        METADATA,
        Column("board", TEXT, primary_key=True),
        *map(_needed, ("tags", "note", "out_of_service", "who", "at_utc")),
        sqlite_with_rowid=False,
    ),
    Table(
        "history",  # leases that have ended, whoever ended them
        METADATA,
        Column("id", NUMBER, primary_key=True),
        _needed("lease", NUMBER),
        *map(_needed, ("boards", "holder", "purpose", "place", "taken_utc", "ended_utc")),
    ),
    Table("identity", METADATA, _needed("store"), _needed("token", NUMBER)),  # one row: which store, the latest token
)
RUNS = (
    Table(
        "runs",
        METADATA,
        Column("run_id", TEXT, primary_key=True),
        _needed("dir"),  # relative to the reports folder where it lies beneath it
        *map(_needed, ("plan", "plan_sha256", "lab", "lab_sha256", "started_utc")),
        _or("ended_utc"),
        _needed("state"),  # running | finished | crashed
        *map(_or, ("verdict", "reason", "commit_id", "fidelity", "engine", "report")),
        *(_or(name, "{}") for name in ("process", "counts", "summary")),
        _or("host"),
        Index("runs_by_plan", "plan", "lab", "started_utc"),
    ),
    Table(
        "series",  # what is followed over runs: a test, or a measurement of it
        METADATA,
        Column("id", NUMBER, primary_key=True),
        *map(_needed, ("plan", "lab", "test", "name", "board", "link", "direction", "slot", "title", "unit")),
        UniqueConstraint("plan", "lab", "test", "name", "board", "link", "direction", "slot"),
    ),
    Table(
        "points",  # what each run found of a series; the rows of a series lie side by side
        METADATA,
        _needed("series", NUMBER),
        _needed("run_id"),
        _needed("verdict"),  # PASS, FAIL, INCONCLUSIVE (also: the bench is to blame), NOT RUN
        Column("value", REAL_NUMBER),  # of a test: how long it took, s
        PrimaryKeyConstraint("series", "run_id"),
        sqlite_with_rowid=False,
    ),
    Table("indexed", METADATA, Column("run_id", TEXT, primary_key=True), sqlite_with_rowid=False),
)
TRIALS = (
    Table("trial_series", METADATA, Column("id", TEXT, primary_key=True), _needed("facts")),
    Table(
        "trials",  # a row from the beginning of an attempt; the first who ends it says what it came to
        METADATA,
        *map(_needed, ("series", "role")),
        *(_needed(name, NUMBER) for name in ("number", "attempt")),
        _or("host"),
        Column("ended", NUMBER),  # 1 ended first; empty: it has not ended
        Column("document", TEXT),
        PrimaryKeyConstraint("series", "number", "attempt"),
    ),
    Table("releases", METADATA, Column("run_id", TEXT, primary_key=True), _needed("name")),
)
PARTS = {"leases": LEASES, "runs": RUNS, "trials": TRIALS}

_ENDED = "INSERT INTO history (lease, boards, holder, purpose, place, taken_utc, ended_utc) VALUES (OLD.id, OLD.boards, OLD.holder, OLD.purpose, OLD.place, OLD.taken_utc, {now})"  # noqa: E501
ENDED = {
    "sqlite": [
        "CREATE TRIGGER IF NOT EXISTS ended AFTER DELETE ON claims WHEN OLD.taken_utc IS NOT NULL BEGIN "
        + _ENDED.format(now="strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')")
        + f"; DELETE FROM history WHERE id <= last_insert_rowid() - {KEPT_ENDS}; END"
    ],
    "postgresql": [
        "CREATE FUNCTION note_ended() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE last bigint; BEGIN "
        + _ENDED.format(now="to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS+00:00')")
        + f" RETURNING id INTO last; DELETE FROM history WHERE id <= last - {KEPT_ENDS}; RETURN OLD; END $$",
        "CREATE TRIGGER ended AFTER DELETE ON claims FOR EACH ROW WHEN (OLD.taken_utc IS NOT NULL) "
        "EXECUTE FUNCTION note_ended()",
    ],
}
"""A lease that ends is remembered by the store itself."""


def make(db: Connection, parts: Iterable[str]) -> None:
    """Make the tables of these parts that are not there, with what must be in them from the beginning."""
    tables = [table for part in parts for table in PARTS[part]]
    METADATA.create_all(db, tables=tables)
    if LEASES[0] in tables:
        for statement in ENDED[db.dialect.name]:
            db.exec_driver_sql(statement)
        if db.execute(text("SELECT 1 FROM identity")).first() is None:
            row = {"store": token_hex(8), "token": time.time_ns() // 1000}
            db.execute(text("INSERT INTO identity VALUES (:store, :token)"), row)


def stamp(db: Connection) -> None:
    """Write down that the store is the newest."""
    db.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    db.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
