"""What the trials of a series came to, and which attempts have begun: in its folder, or in the shared store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hil.core.locks import locked
from hil.core.wait import SYSTEM_CLOCK
from hil.database.access import opened
from hil.database.connection import BUSY_S, STORE_ENV, ServerAway, ServerConnection, shared
from hil.errors import ConfigurationError

LINES, LOCK = "trials.jsonl", ".lock"
_AGAIN_S = 0.5

T = TypeVar("T")


class TrialLines(Protocol):
    """Where trials are written down."""

    def lines(self) -> list[dict[str, Any]]:
        """Return the trials that ended, in order."""

    def begin(self, role: str, number: int, attempt: int) -> None:
        """Write down that an attempt begins."""

    def add(self, role: str, document: Mapping[str, Any]) -> None:
        """Write down what an attempt came to, durably."""

    def begun(self, number: int) -> list[int]:
        """Return the attempts of a trial that have begun."""


@dataclass(frozen=True)
class TrialFile:
    """A file of lines in the folder of the series; that an attempt has begun is seen by its own folder."""

    folder: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return the trials that ended; half a line, of a process that was killed, is left out."""
        try:
            text = (self.folder / LINES).read_text("utf-8")
        except FileNotFoundError:
            return []
        found = []
        for line in text.splitlines():
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if isinstance(document, dict):
                found.append(document)
        return found

    def begin(self, role: str, number: int, attempt: int) -> None:
        """Do nothing: the trial makes its folder."""

    def add(self, role: str, document: Mapping[str, Any]) -> None:
        """Append a line; several processes may do so at once."""
        data = json.dumps({"role": role, **document}, ensure_ascii=True).encode() + b"\n"
        with locked(self.folder / LOCK), (self.folder / LINES).open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    data = b"\n" + data  # a killed writer left half a line
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def begun(self, number: int) -> list[int]:
        """Return the attempts of a trial that have a folder; folders with other names are somebody else's."""
        names = [path.name.rpartition("-")[2] for path in (self.folder / "trials").glob(f"{number:04d}-*")]
        return [int(name) for name in names if name.isdecimal()]


@dataclass(frozen=True)
class TrialRows:
    """Rows in the store that several hosts share: of an attempt the first that ends it counts, a later one is dropped.

    A restart of the server is waited for: what a trial came to is not lost for it.
    """

    series: str

    def create(self, facts: Mapping[str, Any]) -> None:
        """Begin a series. ConfigurationError when another host has one of this name."""
        row = {"series": self.series, "facts": json.dumps(facts)}
        insert = "INSERT INTO trial_series (id, facts) VALUES (:series, :facts) ON CONFLICT DO NOTHING"
        if not self._do(lambda db: db.execute(insert, row).rowcount):
            raise ConfigurationError(f"the store has a series {self.series} already", remedy="choose another id")

    def facts(self) -> dict[str, Any]:
        """Return what was fixed before the first trial. ConfigurationError when the store has no such series."""
        row = self._do(
            lambda db: db.execute("SELECT facts FROM trial_series WHERE id = :id", {"id": self.series}).fetchone()
        )
        if row is None:
            raise ConfigurationError(
                f"the store {shared()} has no series {self.series}",
                remedy=f"begin it with the same {STORE_ENV} as the workers have",
            )
        return dict(json.loads(row[0]))

    def lines(self) -> list[dict[str, Any]]:
        """Return the trials that ended, in order."""
        query = (
            "SELECT document FROM trials WHERE series = :id AND document IS NOT NULL ORDER BY ended, number, attempt"
        )
        return [json.loads(row[0]) for row in self._do(lambda db: db.execute(query, {"id": self.series}).fetchall())]

    def begin(self, role: str, number: int, attempt: int) -> None:
        """Write down that an attempt begins on this host."""
        insert = (
            "INSERT INTO trials (series, role, number, attempt, host) VALUES (:series, :role, :number, :attempt, :host)"
            " ON CONFLICT DO NOTHING"
        )
        self._do(lambda db: db.execute(insert, self._row(role, number, attempt)))

    def add(self, role: str, document: Mapping[str, Any]) -> None:
        """Write down what an attempt came to, unless that is known already."""
        row = self._row(role, document["number"], document["attempt"])
        row["document"] = json.dumps({"role": role, **document}, ensure_ascii=True)
        insert = (
            "INSERT INTO trials (series, role, number, attempt, host, ended, document) SELECT CAST(:series AS TEXT),"
            " CAST(:role AS TEXT), CAST(:number AS BIGINT), CAST(:attempt AS BIGINT), CAST(:host AS TEXT),"
            " coalesce(max(ended), 0) + 1, CAST(:document AS TEXT) FROM trials WHERE series = :series"
            " ON CONFLICT (series, number, attempt) DO UPDATE SET ended = excluded.ended, document = excluded.document"
            " WHERE trials.document IS NULL"
        )
        self._do(lambda db: db.execute(insert, row))

    def begun(self, number: int) -> list[int]:
        """Return the attempts of a trial that have begun, on whichever host."""
        query = "SELECT attempt FROM trials WHERE series = :id AND number = :number"
        return [
            row[0] for row in self._do(lambda db: db.execute(query, {"id": self.series, "number": number}).fetchall())
        ]

    def _row(self, role: str, number: int, attempt: int) -> dict[str, Any]:
        of = {"series": self.series, "role": role, "number": number, "attempt": attempt}
        return {**of, "host": os.uname().nodename}

    def _do(self, work: Callable[[ServerConnection], T]) -> T:
        if (server := shared()) is None:
            raise ConfigurationError(
                f"series {self.series} is in a store that several hosts share", remedy=f"set {STORE_ENV} to its URL"
            )
        give_up_s = SYSTEM_CLOCK.monotonic() + BUSY_S
        while True:
            try:
                with opened(server) as db:
                    return work(db)
            except ServerAway:
                if SYSTEM_CLOCK.monotonic() >= give_up_s:
                    raise
                SYSTEM_CLOCK.sleep(_AGAIN_S)
