"""Where leases are kept: a SQLite file on a local disk of the lab controller, or a server that several hosts share.

The file: WAL, so that lookers never wait for a writer; ``BEGIN IMMEDIATE``, so that whoever decides has read the
latest.  Only what concerns a person's lease waits for the disk: a power cut ends all processes anyway.  The server: a
lock on one row in place of the file's.  Connections are opened for one operation and never kept across a fork.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from hil.core import paths
from hil.core.mounts import filesystem_of
from hil.core.wait import wait_until
from hil.database.access import make_current, opened
from hil.database.connection import BUSY_S, Database, Server, writing
from hil.errors import BenchError, ConfigurationError, HarnessError
from hil.leases.rules import LeaseEntry, Origin, left_s, position

APPLICATION = 0x48494C4C  # "HILL", in the file's header: this is a lease store
VERSION = 2
READABLE = (1, VERSION)
"""Format 1 had a fencing token with every lease, in a column and a table that are left alone."""

REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "fuse.sshfs", "fuse.glusterfs"})
"""File systems over which processes on two machines do not share memory, which WAL needs."""

_PLAIN = ("within", "holder", "purpose", "pid", "start_ticks", "ttl_s", "renewed_s")
"""Fields of an entry that stand in a column as they are."""
_NUMBER, _NOTHING = (int, float), type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "fence", "by_person", "pid", "start_ticks", "renewals"), (int,)),
    **dict.fromkeys(("boards", "holder", "purpose", "place", "asked_utc", "renewed_utc", "store"), (str,)),
    **dict.fromkeys(("ttl_s", "renewed_s"), _NUMBER),
    "within": (int, _NOTHING),
    "taken_utc": (str, _NOTHING),
    "at_s": (*_NUMBER, _NOTHING),
}
"""What a column may hold; SQLite itself takes anything in any."""
_LARGEST = 1e11
"""Seconds and numbers of processes; a term that ends behind the year 9999 has no date."""


@dataclass(frozen=True)
class Store:
    """The file or the server, and the place from which it is looked at."""

    path: Path | Server
    here: Origin

    @contextmanager
    def open(self) -> Iterator[Session]:
        """A connection; its errors come out with blame and remedy."""
        if isinstance(self.path, Server):
            with opened(self.path) as server:
                try:
                    yield Session(server, self.here)
                except SenselessRow as exc:
                    raise BenchError(
                        f"the leases in the store {self.path} make no sense: {exc}",
                        remedy="make sure that nobody uses its boards, and delete that row from the table claims",
                    ) from exc
            return
        with _explained(self.path):
            if not self.path.exists():
                self._create(self.path)
            with closing(_connect(self.path)) as connection:
                if _is_empty(connection):  # whoever makes it now has not finished, or was killed
                    self._create(self.path)
                _check(connection, self.path)
                yield Session(connection, self.here)

    def check_disk(self) -> None:
        """ConfigurationError when the file is on a file system that machines share."""
        if isinstance(self.path, Path) and (kind := filesystem_of(self.path.parent)) in REMOTE:
            raise ConfigurationError(
                f"the lease store {self.path} is on {kind}, which cannot keep it consistent between machines",
                remedy="keep it on a local disk of the lab controller: --store FILE or HIL_LEASES; several hosts share "
                "a PostgreSQL: HIL_STORE",
            )

    def _create(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.stat().st_mode & stat.S_ISGID and not path.exists():
            # A directory of a group: its members write what one of them makes, SQLite's own files too.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o664))
                path.chmod(0o664)

        def created() -> bool:
            from hil.database.migrate import make

            # Many may arrive at once: changing the journal's mode wants the file alone, and does not queue for it.
            with _explained(path), closing(_connect(path)) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")
                if _is_empty(db):
                    make(db, ["leases"])
                    db.execute(f"PRAGMA application_id = {APPLICATION}")
                    db.execute(f"PRAGMA user_version = {VERSION}")
                db.execute("COMMIT")
                return True

        wait_until(created, what=f"the lease store {path} to be made", deadline_s=BUSY_S)


class SenselessRow(sqlite3.DatabaseError):
    """A row that this program cannot have written."""


class Session:
    """One connection's verbs.  Those that write want ``with session.write():`` around them."""

    def __init__(self, connection: Database, here: Origin) -> None:
        self._db = self.connection = connection
        self._here = here
        # not in an old file that this process may only read
        known = not isinstance(connection, sqlite3.Connection) or _has(connection, "identity")
        self._identity = "(SELECT store FROM identity) AS store" if known else "0 AS fence, '' AS store"

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing, and nobody else writes meanwhile; ``durable``: it also survives a power cut."""
        with writing(self._db, lock="SELECT token FROM identity FOR UPDATE", durable=durable):
            yield

    def entries(self) -> list[LeaseEntry]:
        """Return every lease and every position in the queue, by id; also those whose term is over."""
        rows = self._db.execute(
            f"SELECT claims.*, at_s, {self._identity} FROM claims "
            "LEFT JOIN sightings ON sightings.claim = claims.id AND sightings.clock = :clock "
            "AND sightings.renewals = claims.renewals ORDER BY id",
            {"clock": _clock(self._here)},
        )
        return [_entry(row) for row in rows]

    def entry(self, entry_id: int) -> LeaseEntry:
        """Return one of them. Raises BenchError when it is gone."""
        for entry in self.entries():
            if entry.id == entry_id:
                return entry
        raise BenchError(
            "this process is not in the queue any more: somebody ended its wait, or it stood still for too long",
            remedy="ask again; `hil lease list` shows leases and queue",
        )

    def has(self, entry: LeaseEntry) -> bool:
        """Return whether that very entry is here, and not one of the same number in a store that was made anew."""
        return any(each.identity == entry.identity for each in self.entries())

    def holds(self, entry: LeaseEntry) -> bool:
        """Return whether that lease is still here, and the one around it, if any."""
        ids = {each.id for each in self.entries() if each.holds}
        return entry.id in ids and self.has(entry) and (entry.within is None or entry.within in ids)

    def enter(self, entry: LeaseEntry) -> int:
        """Put an entry into the queue; return its id."""
        # From the clock, too: a store that was put back from a copy gives none that it has given before.
        self._db.execute(
            "UPDATE identity SET token = CASE WHEN token < :now_us THEN :now_us ELSE token + 1 END",
            {"now_us": time.time_ns() // 1000},
        )
        row = {name: getattr(entry, name) for name in _PLAIN} | {
            "fence": self._db.execute("SELECT token FROM identity").fetchone()[0],
            "by_person": int(entry.by_person),
            "boards": json.dumps(sorted(entry.boards)),
            "place": json.dumps(asdict(entry.origin)),
            "asked_utc": entry.asked.isoformat(),
            "renewed_utc": entry.renewed.isoformat(),
        }
        columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        cursor = self._db.execute(f"INSERT INTO claims ({columns}) VALUES ({values}) RETURNING id", row)
        return int(cursor.fetchall()[0][0])

    def grant(self, entry: LeaseEntry, now_s: float) -> None:
        """Turn a position in the queue into a lease.  HarnessError when a board is held after all (a bug of ours)."""
        nested = int(entry.within is not None)
        rows = [{"board": board, "nested": nested, "claim": entry.id} for board in sorted(entry.boards)]
        insert = "INSERT INTO held (board, nested, claim) VALUES (:board, :nested, :claim) ON CONFLICT DO NOTHING"
        if self._db.executemany(insert, rows).rowcount != len(rows):
            raise HarnessError(f"the rules granted a board twice: lease {entry.id}")
        self._db.execute(
            "UPDATE claims SET taken_utc = :now WHERE id = :id", {"now": datetime.now(UTC).isoformat(), "id": entry.id}
        )
        self.renew(entry.id, now_s)

    def renew(self, entry_id: int, now_s: float, *, ttl_s: float | None = None) -> None:
        """Begin the entry's term again, on the clock of this process."""
        self._db.execute(
            "UPDATE claims SET renewed_s = :now_s, renewals = renewals + 1, renewed_utc = :now, place = :place, "
            "ttl_s = coalesce(:ttl_s, ttl_s) WHERE id = :id",
            {
                "now_s": now_s,
                "now": datetime.now(UTC).isoformat(),
                "place": json.dumps(asdict(self._here)),
                "ttl_s": ttl_s,
                "id": entry_id,
            },
        )

    def hand(self, entry_id: int, pid: int, start_ticks: int) -> None:
        """Make another process of this machine the holder."""
        self._db.execute(
            "UPDATE claims SET pid = :pid, start_ticks = :ticks WHERE id = :id",
            {"pid": pid, "ticks": start_ticks, "id": entry_id},
        )

    def drop(self, ids: Iterable[int]) -> None:
        """Remove entries; those that are not there any more are no error."""
        self._db.executemany("DELETE FROM claims WHERE id = :id", [{"id": entry_id} for entry_id in ids])

    def note_sightings(self, entries: Iterable[LeaseEntry], now_s: float) -> None:
        """Remember when an entry made on another clock was first seen as it is."""
        self._db.executemany(
            "INSERT INTO sightings (claim, clock, renewals, at_s) VALUES (:claim, :clock, :renewals, :now_s) "
            "ON CONFLICT (claim, clock) DO UPDATE SET renewals = excluded.renewals, at_s = excluded.at_s",
            [{"claim": c.id, "clock": _clock(self._here), "renewals": c.renewals, "now_s": now_s} for c in entries],
        )


def presented(entries: list[LeaseEntry], here: Origin, now_s: float) -> list[LeaseEntry]:
    """Return the same entries as people read them: with the rest and the end of their term, and their position."""
    wall = datetime.now(UTC)
    result = []
    for entry in entries:
        left = left_s(entry, here, now_s)
        expires = wall + timedelta(seconds=left)
        result.append(replace(entry, left_s=left, expires=expires, position=position(entry, entries)))
    return result


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _is_empty(db: sqlite3.Connection) -> bool:
    return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _check(db: sqlite3.Connection, path: Path) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise ConfigurationError(f"{path} is not a lease store", remedy="name another file with --store or HIL_LEASES")
    if version not in READABLE:
        raise ConfigurationError(
            f"the lease store {path} has format {version}; this program knows {VERSION}",
            remedy="use the same release of this program everywhere on the lab controller",
        )
    if version != VERSION:
        db.execute(f"PRAGMA user_version = {VERSION}")  # older releases must not read leases without tokens
    with suppress(sqlite3.OperationalError):  # a store that this process may only read is read as it is
        make_current(db, ["leases"], f"the lease store {path}")


def _has(db: sqlite3.Connection, table: str) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def _entry(row: Any) -> LeaseEntry:
    """Raise SenselessRow for a row that this program cannot have written."""
    try:
        for name, kinds in _KINDS.items():
            value = row[name]
            largest = math.inf if name == "fence" else _LARGEST
            if not isinstance(value, kinds) or (isinstance(value, int | float) and not abs(value) < largest):
                raise ValueError(f"{name} is {value!r:.40}")
        return LeaseEntry(
            **{name: row[name] for name in ("id", "renewals", "store", *_PLAIN)},
            token=row["fence"],
            by_person=bool(row["by_person"]),
            boards=_boards(row["boards"]),
            origin=_origin(row["place"]),
            asked=_moment(row["asked_utc"]),
            taken=_moment(row["taken_utc"]) if row["taken_utc"] else None,
            renewed=_moment(row["renewed_utc"]),
            seen_s=row["at_s"],
        )
    except (ValueError, TypeError, RecursionError) as exc:
        raise SenselessRow(f"row {row['id']!r:.40} of its leases makes no sense: {exc}") from exc


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment


@lru_cache(maxsize=256)  # a poll of a long queue reads the same few again and again
def _boards(text: str) -> frozenset[str]:
    boards = json.loads(text)
    if not isinstance(boards, list) or not boards or not all(isinstance(board, str) for board in boards):
        raise ValueError(f"boards are {text!r:.40}")
    return frozenset(boards)


@lru_cache(maxsize=256)
def _origin(text: str) -> Origin:
    place = json.loads(text)
    if not isinstance(place, dict) or not all(isinstance(value, str) for value in place.values()):
        raise ValueError(f"place is {text!r:.40}")
    return Origin(**place)


def _clock(origin: Origin) -> str:
    return f"{origin.boot} {origin.clock}"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors, in this project's words."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        if "locked" in str(exc) or "busy" in str(exc):
            raise BenchError(
                f"the lease store {path} was busy for {BUSY_S:g} s",
                remedy="see with `fuser -v` on that file which process keeps it, and end that one",
            ) from exc
        raise _not_writable(path, exc) from exc
    except sqlite3.DatabaseError as exc:
        raise BenchError(
            f"the lease store {path} is damaged or no lease store: {exc}",
            remedy="make sure that nobody uses a board, move the file away, and take the leases again",
        ) from exc
    except OSError as exc:
        raise _not_writable(path, exc) from exc


def _not_writable(path: Path, why: Exception) -> ConfigurationError:
    if paths.SYSTEM_HOME in path.parents and os.geteuid() != 0:
        return ConfigurationError(
            f"the leases of this machine are in {path}, and this user may not use them: {why}",
            remedy=f"ask to be added to group {paths.GROUP}, and log in again "
            f"(as root: `hil setup`, then `usermod -aG {paths.GROUP} USER`)",
        )
    return ConfigurationError(
        f"cannot use the lease store {path}: {why}",
        remedy=f"user {os.geteuid()} must be able to write the file and its directory {path.parent}; "
        "HIL_LEASES names another file",
    )
