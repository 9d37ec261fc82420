"""Connections to the store: SQLite's own, and one to a PostgreSQL server that looks the same to those who use it.

Statements are written once, in SQL that both understand, with parameters as ``:name``.  ``HIL_STORE`` names the server
by its URL.  A connection is opened for one operation.  Every wait has an end: for a connection, for a lock, for an
answer of a server that has become silent.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Timer
from typing import TYPE_CHECKING, Any, Protocol

from hil.errors import BenchError, ConfigurationError, HilError
from hil.text import one_line

if TYPE_CHECKING:
    import psycopg

STORE_ENV = "HIL_STORE"
HEAD = "0002"
"""The newest migration."""
KEPT_ENDS = 20_000
"""So many ended leases are remembered."""

CONNECT_S = 5
BUSY_S = 30.0
"""How long one operation waits for the writes of others (each takes about a millisecond)."""
ANSWER_S = 45.0
"""A server that has not answered a statement after so long is given up."""
IDLE_S = 15
"""A server ends a transaction whose process has said nothing for so long: it may be stopped, and others wait."""
_TO_MEND = "see whether the server runs and can be reached: `pg_isready -h HOST -p PORT`; docs/store.md says what to do"


class Cursor(Protocol):
    """What a statement found; rows are read by number and by name."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """What SQLite's connection and a server's have in common."""

    def execute(self, statement: str, parameters: Mapping[str, Any] = ..., /) -> Cursor: ...
    def executemany(self, statement: str, parameters: Sequence[Mapping[str, Any]], /) -> Cursor: ...
    def close(self) -> None: ...


class ServerAway(BenchError):
    """The server of the store cannot be used just now."""


@dataclass(frozen=True)
class Server:
    """A PostgreSQL by its URL; wherever it is shown, the password is not."""

    url: str = field(repr=False)
    shown: str = field(default="", compare=False)

    @classmethod
    def named(cls, url: str) -> Server:
        """Read a URL. ConfigurationError without any of it, which may hold a password, when it makes no sense."""
        said = f"write {STORE_ENV}=postgresql://USER@HOST:PORT/DATABASE"
        scheme = url.partition("://")[0]
        if scheme == "sqlite":
            raise ConfigurationError(
                f"{STORE_ENV} names SQLite, which one host has for itself", remedy=f"unset it, or {said}"
            )
        if scheme not in ("postgresql", "postgres") or "://" not in url:
            raise ConfigurationError(f"{STORE_ENV} is no URL of a PostgreSQL", remedy=said)
        try:
            known = _psycopg().conninfo.conninfo_to_dict(url)
        except _psycopg().Error:
            known = None
        # A password with @ / or : in it, not written as %XX, is taken for a part of the rest, which is shown.
        if known is None or "@" in f"{known.get('host')}{known.get('dbname')}" or not _is_port(known.get("port")):
            raise ConfigurationError(
                f"{STORE_ENV} makes no sense to PostgreSQL's library",
                remedy=f"{said}; special characters of a password as %XX, or better a password in ~/.pgpass",
            ) from None
        if not known.get("dbname"):
            raise ConfigurationError(f"{STORE_ENV} names no database", remedy=said)
        port = f":{known['port']}" if known.get("port") else ""
        user = f"{known['user']}@" if known.get("user") else ""
        return cls(url, one_line(f"postgresql://{user}{known.get('host', '')}{port}/{known['dbname']}"))

    def __str__(self) -> str:
        return self.shown

    def exists(self) -> bool:
        """Return True: whether it can be used is seen when it is opened."""
        return True

    def open(self) -> ServerConnection:
        """Connect. ServerAway or ConfigurationError otherwise."""
        psycopg = _psycopg()
        options = {"connect_timeout": CONNECT_S, "application_name": f"hil on {socket.gethostname()}"[:60]}
        options |= {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
        named = psycopg.conninfo.conninfo_to_dict(self.url)
        try:
            raw = psycopg.connect(
                **{**options, **named},
                autocommit=True,
                prepare_threshold=None,  # a pool between us and the server may know nothing of what is prepared
                row_factory=_row_factory,
            )
        except psycopg.Error as exc:
            raise self.explained(exc) from None
        opened = ServerConnection(self, raw)
        limits = {"statement_timeout": BUSY_S, "lock_timeout": BUSY_S, "idle_in_transaction_session_timeout": IDLE_S}
        settings = ", ".join(f"set_config('{name}', '{limit:g}s', false)" for name, limit in limits.items())
        try:
            opened.execute(f"SELECT {settings}, set_config('client_min_messages', 'error', false)")
        except BaseException:
            opened.close()
            raise
        return opened

    def explained(self, exc: psycopg.Error) -> HilError:
        """Return an error of the server in this project's words; never with the password."""
        state, said = exc.sqlstate or "", one_line(_first_line(str(exc)), 300)
        with suppress(Exception):
            if password := _psycopg().conninfo.conninfo_to_dict(self.url).get("password"):
                said = said.replace(str(password), "***")
        what = f"the store {self.shown}"
        if not state and re.search(r"invalid .*(value|option|name)|could not translate host name", said):
            return ConfigurationError(f"{STORE_ENV} ({self.shown}): {said}", remedy="mend the URL")
        if state[:2] == "28" or "authentication failed" in said or "no password supplied" in said:
            return ConfigurationError(
                f"{what} lets this user not in: {said}",
                remedy=f"check user and password: in {STORE_ENV}, or better in ~/.pgpass (chmod 600)",
            )
        if state == "3D000" or ("database" in said and "does not exist" in said):
            return ConfigurationError(f"{what}: {said}", remedy="make it: `createdb -O hil hil`; docs/store.md")
        if state == "42501":
            return ConfigurationError(
                f"{what}: this user may not do that: {said}", remedy="make its role the owner of the database's tables"
            )
        if state == "25006":
            return ConfigurationError(
                f"{what} is read-only: {said}", remedy=f"name the primary server in {STORE_ENV}, not a standby"
            )
        if state[:2] in ("42", "22", "23"):
            return BenchError(
                f"{what} is damaged, or not made by this program: {said}",
                remedy="see which tables are in the database; name a database of its own",
            )
        if state in ("55P03", "57014"):
            return BenchError(
                f"{what} was busy for {BUSY_S:g} s",
                remedy="`SELECT pid, state, query FROM pg_stat_activity` says who holds what",
            )
        return ServerAway(f"{what} cannot be used: {said}", remedy=_TO_MEND)


class ServerConnection:
    """A connection to a server; looks like SQLite's, and its errors have blame and remedy."""

    def __init__(self, server: Server, raw: psycopg.Connection[Any]) -> None:
        self.server, self.raw = server, raw

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None, /) -> Cursor:
        """Run a statement; return its rows."""
        with self._answered():
            return self.raw.execute(_adapted(statement), {k: _fit(v) for k, v in (parameters or {}).items()})

    def executemany(self, statement: str, parameters: Sequence[Mapping[str, Any]], /) -> Cursor:
        """Run a statement for each set of parameters."""
        cursor = self.raw.cursor()
        with self._answered():
            if parameters:
                cursor.executemany(_adapted(statement), [{k: _fit(v) for k, v in p.items()} for p in parameters])
        return cursor

    @property
    def in_transaction(self) -> bool:
        return not self.raw.closed and self.raw.info.transaction_status.name != "IDLE"

    def close(self) -> None:
        self.raw.close()

    @contextmanager
    def _answered(self) -> Iterator[None]:
        timer = Timer(ANSWER_S, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except _psycopg().Error as exc:
            raise self.server.explained(exc) from None
        finally:
            timer.cancel()

    def _cut(self) -> None:
        """End the wait for a server that has become silent."""
        with suppress(Exception), socket.socket(fileno=os.dup(self.raw.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)


@contextmanager
def writing(db: Database, *, lock: str = "", durable: bool = True) -> Iterator[None]:
    """All or nothing, and nobody else writes meanwhile.

    ``lock``: the statement with which a server's writers queue, where others' writes matter.  ``durable``: it also
    survives a power cut; a server's always does, because its restart does not end those who hold boards.
    """
    if isinstance(db, sqlite3.Connection):
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    try:
        db.execute("BEGIN IMMEDIATE" if isinstance(db, sqlite3.Connection) else "BEGIN")
        if lock and isinstance(db, ServerConnection):
            db.execute(lock)
        yield
        db.execute("COMMIT")
    except BaseException:
        if isinstance(db, sqlite3.Connection | ServerConnection) and db.in_transaction:
            with suppress(ServerAway):
                db.execute("ROLLBACK")
        raise


def upsert(table: str, columns: Iterable[str], *, key: str) -> str:
    """Return the statement that puts a row in the place of the one with the same key."""
    names = list(columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    values = ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {changes}"


def shared() -> Server | None:
    """Return the server that ``HIL_STORE`` names; None: each host has its own files."""
    url = os.environ.get(STORE_ENV, "").strip()
    return Server.named(url) if url else None


def check_version(version: str, what: str) -> bool:
    """Return whether a store is the newest. ConfigurationError when it is of a later release than this program."""
    if version > HEAD:
        raise ConfigurationError(
            f"{what} is of a later release: its tables are {one_line(version, 20)}, this program knows {HEAD}",
            remedy="use the same release of this program everywhere",
        )
    return version == HEAD


def version_of(db: Database) -> str:
    """Return the last migration of a store; empty when there has been none."""
    if isinstance(db, sqlite3.Connection):
        known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    else:
        known = db.execute("SELECT to_regclass('alembic_version')").fetchone()[0]
    row = db.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return str(row[0]) if row else ""


def _row_factory(cursor: psycopg.Cursor[Any]) -> Any:
    """Return a class of rows that are read by number and by name, as SQLite's are."""
    places = {column.name: place for place, column in enumerate(cursor.description or ())}

    class Row(tuple[Any, ...]):
        __slots__ = ()

        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(places[key] if isinstance(key, str) else key)

        def keys(self) -> list[str]:
            return list(places)

    return Row


@lru_cache(maxsize=256)
def _adapted(statement: str) -> str:
    return re.sub(r"(?<![:\w]):([a-z]\w*)", r"%(\1)s", statement.replace("%", "%%"))


def _fit(value: Any) -> Any:
    """Return a value as PostgreSQL takes it: text without NUL and lone surrogates, numbers for truth."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return int(value) if isinstance(value, bool) else value


def _is_port(text: object) -> bool:
    return text is None or all(part.isdigit() for part in str(text).split(","))


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "no reason given")


def _psycopg() -> Any:
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as exc:
        raise ConfigurationError(
            f"{STORE_ENV} needs psycopg, which is not installed", remedy="pip install 'orbital-hil[postgres]'"
        ) from exc
    return psycopg
