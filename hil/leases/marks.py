"""Marks on boards, and who had which: beside the leases, in the same file.

A mark says what people should know of a board: tags to choose it by, a note, and why it is out of service.  The
history is written by the store itself when a lease ends, whoever ended it.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hil.database.connection import Database, upsert
from hil.errors import BenchError, ConfigurationError
from hil.leases.store import Store

TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
LONGEST_TEXT = 200


@dataclass(frozen=True)
class Mark:
    """What is to be known of one board, by whom it was written, and when."""

    board: str
    tags: frozenset[str] = frozenset()
    note: str = ""
    out_of_service: str = ""
    """Why; empty: it is in service."""
    who: str = ""
    at: datetime | None = None

    @property
    def empty(self) -> bool:
        return not (self.tags or self.note or self.out_of_service)


@dataclass(frozen=True)
class EndedLease:
    """A lease of the past."""

    id: int
    boards: frozenset[str]
    holder: str
    host: str
    purpose: str
    taken: datetime
    ended: datetime


class Marks:
    """The marks and the history of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> dict[str, Mark]:
        """Return the marks by board."""
        with self._store.open() as db:
            return {mark.board: mark for mark in map(_mark, _rows(db.connection, "SELECT * FROM marks ORDER BY board"))}

    def change(
        self,
        board: str,
        *,
        who: str,
        tags: Collection[str] = (),
        untag: Collection[str] = (),
        note: str | None = None,
        out_of_service: str | None = None,
    ) -> Mark:
        """Add and remove tags, and set texts (empty: take it away); None stays as it is. Return the mark."""
        for tag in (*tags, *untag):
            if not TAG.fullmatch(tag):
                raise ConfigurationError(
                    f"{tag!r} is no tag", remedy="lower case letters, digits, . _ and -, at most 32"
                )
        before = self.all().get(board, Mark(board))
        changed = replace(
            before,
            tags=(before.tags | {*tags}) - {*untag},
            note=before.note if note is None else _line(note),
            out_of_service=before.out_of_service if out_of_service is None else _line(out_of_service),
            who=who,
            at=datetime.now(UTC),
        )
        row = {"board": board, "tags": json.dumps(sorted(changed.tags)), "note": changed.note}
        row |= {"out_of_service": changed.out_of_service, "who": who, "at_utc": str(changed.at)}
        with self._store.open() as db, db.write(durable=True):
            if changed.empty:
                db.connection.execute("DELETE FROM marks WHERE board = :board", {"board": board})
            else:
                db.connection.execute(upsert("marks", row, key="board"), row)
        return changed

    def refuse(self, boards: Collection[str]) -> None:
        """Raise BenchError when one of the boards is out of service."""
        marks = self.all()
        out = [marks[board] for board in sorted(boards) if board in marks and marks[board].out_of_service]
        if out:
            whole = "\n  ".join(f"{m.board} is out of service: {m.out_of_service} ({m.who}, {day(m.at)})" for m in out)
            raise BenchError(
                whole,
                remedy=f"when it works again: `hil board mark {out[0].board} --in-service`; to repair it: "
                "`hil lease take --out-of-service`",
            )

    def tagged(self, tag: str) -> list[str]:
        """Return the boards in service with this tag. ConfigurationError with the tags there are, when none has it."""
        marks = self.all().values()
        found = [mark.board for mark in marks if tag in mark.tags]
        if not found:
            known = ", ".join(sorted({each for mark in marks for each in mark.tags})) or "none"
            raise ConfigurationError(f"no board has the tag {tag}", remedy=f"tags: {known}; `hil board mark` sets them")
        if usable := [mark.board for mark in marks if tag in mark.tags and not mark.out_of_service]:
            return usable
        self.refuse(found)
        return []

    def history(self, *, board: str | None = None, most: int = 50) -> list[EndedLease]:
        """Return ended leases, the latest first."""
        with self._store.open() as db:
            rows = _rows(db.connection, "SELECT * FROM history ORDER BY id DESC")
            ended = (_ended(row) for row in rows)
            return [lease for lease in ended if board is None or board in lease.boards][:most]


def _rows(db: Database, query: str) -> list[Any]:
    """Return the rows; none from a file that has no such table and that this process may not change."""
    try:
        return db.execute(query).fetchall()
    except sqlite3.OperationalError as exc:
        if "no such table" in str(exc):
            return []
        raise


def _mark(row: Any) -> Mark:
    return Mark(
        board=row["board"],
        tags=frozenset(json.loads(row["tags"])),
        note=row["note"],
        out_of_service=row["out_of_service"],
        who=row["who"],
        at=datetime.fromisoformat(row["at_utc"]),
    )


def _ended(row: Any) -> EndedLease:
    return EndedLease(
        id=row["lease"],
        boards=frozenset(json.loads(row["boards"])),
        holder=row["holder"],
        host=json.loads(row["place"]).get("host", ""),
        purpose=row["purpose"],
        taken=datetime.fromisoformat(row["taken_utc"]),
        ended=datetime.fromisoformat(row["ended_utc"]),
    )


def _line(text: str) -> str:
    line = " ".join(text.split())
    if len(line) > LONGEST_TEXT:
        raise ConfigurationError(f"a text of {len(line)} characters", remedy=f"at most {LONGEST_TEXT}")
    return line


def day(moment: datetime | None) -> str:
    """``2026-03-01``."""
    return f"{moment:%Y-%m-%d}" if moment else "-"
