"""Points of history in the run store: the verdict of each test and each measurement, one row per run.

``series`` says what is followed (a test, or a measurement of it with its dimensions), ``points`` what each run found.
The rows of a series lie side by side, so that a history is read in milliseconds beside millions of others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.errors import Blame
from hil.evidence.model import Verdict, label_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
  id INTEGER PRIMARY KEY,
  plan TEXT NOT NULL,
  lab TEXT NOT NULL,
  test TEXT NOT NULL,           -- id of the test
  name TEXT NOT NULL,           -- of the measurement; empty: the test itself
  board TEXT NOT NULL,
  link TEXT NOT NULL,
  direction TEXT NOT NULL,
  slot TEXT NOT NULL,
  title TEXT NOT NULL,          -- of the test, as it was last
  unit TEXT NOT NULL,
  UNIQUE (plan, lab, test, name, board, link, direction, slot)
);
CREATE TABLE IF NOT EXISTS points (
  series INTEGER NOT NULL,
  run_id TEXT NOT NULL,
  verdict TEXT NOT NULL,        -- PASS, FAIL, INCONCLUSIVE (also: the bench is to blame), NOT RUN
  value REAL,                   -- of a test: how long it took, s
  PRIMARY KEY (series, run_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indexed (run_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
MOST = 1e300
DIMENSIONS = ("board", "link", "direction", "slot")


@dataclass(frozen=True)
class Series:
    """What is followed over runs: a test, or a measurement of it."""

    test: str
    title: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    """Those of board, link, direction and slot that apply."""
    unit: str

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"{self.title}: {label_of(self.name, dict(self.dimensions))}" if self.name else self.title


@dataclass(frozen=True)
class Point:
    """What one run found."""

    verdict: str
    value: float | None = None


def add(db: sqlite3.Connection, run_id: str, result: Mapping[str, Any]) -> None:
    """Put what a run found in the place of what it had found; nothing of a run that counts for nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("SELECT 1 FROM indexed WHERE run_id = ?", (run_id,)).fetchone():
            db.execute("DELETE FROM points WHERE run_id = ?", (run_id,))
        of = (str(result.get("plan") or ""), str(result.get("lab") or ""))
        for series, point in _points(result):
            dimensions = dict(series.dimensions)
            key = (*of, series.test, series.name, *(dimensions.get(name, "") for name in DIMENSIONS))
            db.execute(
                "INSERT INTO series (plan, lab, test, name, board, link, direction, slot, title, unit)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET title = excluded.title,"
                " unit = excluded.unit WHERE title != excluded.title OR unit != excluded.unit",
                (*key, series.title, series.unit),
            )
            db.execute(
                "INSERT OR REPLACE INTO points SELECT id, ?, ?, ? FROM series WHERE plan = ? AND lab = ? AND test = ?"
                " AND name = ? AND board = ? AND link = ? AND direction = ? AND slot = ?",
                (run_id, point.verdict, point.value, *key),
            )
        db.execute("INSERT OR IGNORE INTO indexed VALUES (?)", (run_id,))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def differs(db: sqlite3.Connection, run_id: str, result: Mapping[str, Any]) -> bool:
    """Return whether the points of a run are not what its result says."""
    rows = db.execute(
        f"SELECT plan, lab, test, name, {', '.join(DIMENSIONS)}, unit, verdict, value FROM points"
        " LEFT JOIN series ON series.id = points.series WHERE run_id = ?",
        (run_id,),
    )
    of = (str(result.get("plan") or ""), str(result.get("lab") or ""))
    expected: dict[Any, Any] = {}
    for series, point in _points(result):
        dimensions = tuple(dict(series.dimensions).get(name, "") for name in DIMENSIONS)
        expected[(*of, series.test, series.name, *dimensions)] = (series.unit, point.verdict, point.value)
    return {tuple(row)[:-3]: tuple(row)[-3:] for row in rows} != expected


def read(
    db: sqlite3.Connection, plan: str, lab: str, run_ids: Sequence[str], *, test: str | None = None
) -> dict[Series, dict[str, Point]]:
    """Return what these runs found, by series and run; of one test only when it is named."""
    of, which = (plan, lab, test, test), "plan = ? AND lab = ? AND (? IS NULL OR test = ?)"
    found: dict[int, tuple[Series, dict[str, Point]]] = {}
    for row in db.execute(f"SELECT * FROM series WHERE {which} ORDER BY id", of):
        dimensions = tuple((name, row[name]) for name in DIMENSIONS if row[name])
        found[row["id"]] = Series(row["test"], row["title"], row["name"], dimensions, row["unit"]), {}
    marks = ", ".join("?" for _ in run_ids)
    rows = db.execute(
        "SELECT id, run_id, verdict, value FROM series CROSS JOIN points ON points.series = series.id"
        f" WHERE {which} AND run_id IN ({marks})",
        (*of, *run_ids),
    )
    for number, run_id, verdict, value in rows:
        found[number][1][run_id] = Point(verdict, value)
    return {series: points for series, points in found.values() if points}


def _points(result: Mapping[str, Any]) -> list[tuple[Series, Point]]:
    """Return what a run found; nothing of a run that counts for nothing, or whose result makes no sense.

    A failure in a run that is INCONCLUSIVE was not the device's: the bench overrode it.
    """
    try:
        if result.get("partial") or (result.get("evidence") or {}).get("changes"):
            return []
        return list(_found(result, overridden=result.get("verdict") == Verdict.INCONCLUSIVE.value))
    except (KeyError, TypeError, AttributeError):  # a file that somebody wrote
        return []


def _found(result: Mapping[str, Any], *, overridden: bool) -> Iterator[tuple[Series, Point]]:
    for test in result.get("tests") or ():
        verdict = str(test["verdict"])
        if verdict == Verdict.FAIL.value and overridden:
            verdict = Verdict.INCONCLUSIVE.value
        known = (str(test["id"]), str(test.get("title") or test["id"]))
        yield Series(*known, "", (), "s"), Point(verdict, _number(test.get("duration_s")))
        for m in test.get("measurements") or ():
            others = overridden or m.get("blame") not in (None, "", Blame.DEVICE.value)
            judged = (Verdict.INCONCLUSIVE if others else Verdict.FAIL) if m["ok"] is False else Verdict.PASS
            kept = m.get("dimensions") or {}
            dimensions = tuple((name, str(kept[name])) for name in DIMENSIONS if kept.get(name))
            yield Series(*known, str(m["name"]), dimensions, str(m["unit"])), Point(judged.value, _number(m["value"]))


def _number(value: object) -> float | None:
    """Return a value that can be followed over nights; None for a word, and for a number without bounds."""
    return float(value) if isinstance(value, int | float) and abs(value) < MOST else None
